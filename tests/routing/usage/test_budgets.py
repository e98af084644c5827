"""What keys have spent is Postgres' to say when Redis has forgotten it, and the routers' while they know better."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis

from inventiv.accounts.models import User
from routing import key_index
from routing.discovery import keys
from routing.discovery.publisher import Publisher
from routing.discovery.spending import Spent, month_of
from routing.discovery.usage_stream import UsageStream
from routing.models import ApiKey
from routing.usage import budgets
from routing.usage.drain import drain
from tests.routing.usage.told import NOW, tell, usage

pytestmark = pytest.mark.django_db
MONTH = "2026-11"


@pytest.fixture
def owner() -> User:
    return User.objects.create(email="olga@example.com")


def issue(owner: User, **fields: Any) -> ApiKey:
    return ApiKey.issue(owner_id=owner.pk, name="script", scopes=["inference"], **fields)[0]


def counted(store: redis.Redis, key_id: str, month: str = MONTH) -> dict[str, int]:
    raw: Any = store.hgetall(keys.spent(key_id, month))
    return {field.decode(): int(value) for field, value in raw.items()}


def test_a_month_is_that_of_utc() -> None:
    at = datetime.fromisoformat("2026-12-01T00:30:00+02:00")
    assert month_of(at) == "2026-11"


def test_spent_is_what_this_month_has_taken_of_every_model_and_whatever_came_of_it(
    owner: User, store: redis.Redis, stream: UsageStream
) -> None:
    key = issue(owner, monthly_token_budget=1000)
    month = datetime(2026, 11, 1, tzinfo=UTC)
    for at in (month - timedelta(seconds=1), month, NOW):
        tell(store, usage(key_id=str(key.pk), ended_at=at.timestamp(), input_tokens=10, output_tokens=1, cost_micros=5))
    tell(store, usage(key_id=str(key.pk), model_id="m", status=499, input_tokens=0, output_tokens=7, cost_micros=1))
    drain(stream, now=NOW)

    assert budgets.spent(now=NOW) == [Spent(str(key.pk), MONTH, tokens=29, micros=11)]


def test_only_keys_with_a_budget_are_looked_at(owner: User, store: redis.Redis, stream: UsageStream) -> None:
    in_money = issue(owner, monthly_budget=Decimal(1))
    others = [issue(owner), issue(owner, concurrency=1), issue(owner, monthly_token_budget=1)]
    ApiKey.objects.filter(pk=others[-1].pk).update(revoked_at=NOW)
    tell(store, *(usage(key_id=str(key.pk)) for key in (in_money, *others)))
    drain(stream, now=NOW)

    assert [one.key_id for one in budgets.spent(now=NOW)] == [str(in_money.pk)]


def test_what_is_counted_is_only_ever_raised(store: redis.Redis) -> None:
    publisher = Publisher(store)
    publisher.seed_spending([Spent("a", MONTH, tokens=100, micros=10), Spent("b", MONTH, tokens=1, micros=2)])
    assert (counted(store, "a"), counted(store, "b")) == ({"tokens": 100, "micros": 10}, {"tokens": 1, "micros": 2})

    store.hincrby(keys.spent("a", MONTH), "tokens", 50)
    publisher.seed_spending([Spent("a", MONTH, tokens=120, micros=11)])

    assert counted(store, "a") == {"tokens": 150, "micros": 11}
    ttl: Any = store.ttl(keys.spent("a", MONTH))
    assert 0 < ttl <= keys.SPENT_TTL


def test_large_sums_stay_exact(store: redis.Redis) -> None:
    Publisher(store).seed_spending([Spent("a", MONTH, tokens=10**15 + 1, micros=10**15 + 3)])
    assert counted(store, "a") == {"tokens": 10**15 + 1, "micros": 10**15 + 3}


def test_many_keys_are_told_in_pieces(store: redis.Redis) -> None:
    Publisher(store).seed_spending(Spent(str(number), MONTH, tokens=number, micros=0) for number in range(1, 251))
    assert counted(store, "250") == {"tokens": 250}


def test_a_key_that_gets_a_budget_has_spent_already_what_it_used_this_month(
    owner: User, store: redis.Redis, stream: UsageStream
) -> None:
    key = issue(owner)
    now = datetime.now(UTC)
    tell(store, usage(key_id=str(key.pk), ended_at=now.timestamp(), input_tokens=10, output_tokens=1))
    drain(stream, now=now)
    key_index.publish(key)
    assert counted(store, str(key.pk), month_of(now)) == {}

    ApiKey.objects.update(monthly_token_budget=1000)
    key_index.publish(key)

    assert counted(store, str(key.pk), month_of(now))["tokens"] == 11
