"""What a key is limited to: set when it is made, changed afterwards, and told to the routers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from rest_framework.test import APIClient

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing import key_index
from routing.discovery import keys
from routing.discovery.records import ClientKey
from routing.models import ApiKey
from tests.inventiv.api_stage import bearing, session, user

pytestmark = pytest.mark.django_db

LIMITS: dict[str, Any] = {
    "allowed_models": ["acme/small"],
    "requests_per_minute": 60,
    "tokens_per_minute": 10_000,
    "concurrency": 4,
    "monthly_token_budget": 5_000_000_000,
    "monthly_budget": "12.50",
}
NONE: dict[str, Any] = {**dict.fromkeys(LIMITS), "allowed_models": []}


@pytest.fixture
def index(settings: Any) -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def issue(owner: User | None = None, **fields: Any) -> ApiKey:
    owner = owner or user(Role.OPERATOR)
    return ApiKey.issue(owner_id=owner.pk, name="script", scopes=["inference"], **fields)[0]


def published(index: redis.Redis, row: ApiKey) -> ClientKey | None:
    fields: Any = index.hgetall(keys.api_key(row.sha256))
    return ClientKey.from_hash(fields) if fields else None


def limits_of(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: answer[name] for name in LIMITS}


# --- making and changing ------------------------------------------------------------------------------------------


def test_a_key_is_made_without_limits_or_with_them(operator: APIClient) -> None:
    order = {"name": "script", "scopes": ["inference"]}
    without = operator.post("/api-keys", order).json()
    limited = operator.post("/api-keys", {**order, **LIMITS}).json()

    assert limits_of(without) == NONE
    assert limits_of(limited) == LIMITS
    assert limits_of(operator.get(f"/api-keys/{limited['id']}").json()) == LIMITS


def test_limits_name_and_models_are_changed_afterwards_and_nothing_else(operator: APIClient) -> None:
    row = issue(requests_per_minute=60)
    answer = operator.patch(f"/api-keys/{row.pk}", {"name": "notebook", "concurrency": 2})

    assert answer.status_code == 200
    changed = ApiKey.objects.get(pk=row.pk)
    assert (changed.name, changed.concurrency, changed.requests_per_minute) == ("notebook", 2, 60)
    assert (changed.sha256, changed.scopes, changed.owner_id) == (row.sha256, row.scopes, row.owner_id)


def test_null_takes_a_limit_away(operator: APIClient) -> None:
    row = issue(**{**LIMITS, "monthly_budget": Decimal("12.50")})
    assert limits_of(operator.patch(f"/api-keys/{row.pk}", NONE).json()) == NONE
    assert not ApiKey.objects.get().is_limited


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"requests_per_minute": 1.5}, "requests_per_minute"),
        ({"requests_per_minute": True}, "requests_per_minute"),
        ({"tokens_per_minute": 10**10}, "tokens_per_minute"),
        ({"concurrency": "many"}, "concurrency"),
        ({"monthly_token_budget": 10**16}, "monthly_token_budget"),
        ({"monthly_budget": "0"}, "monthly_budget"),
        ({"monthly_budget": "0.001"}, "monthly_budget"),
        ({"monthly_budget": "NaN"}, "monthly_budget"),
        ({"monthly_budget": "1e12"}, "monthly_budget"),
        ({"allowed_models": None}, "allowed_models"),
        ({"allowed_models": "acme/small"}, "allowed_models"),
        ({"allowed_models": [""]}, "allowed_models.0"),
        ({"allowed_models": ["a\x00"]}, "allowed_models.0"),
        ({"allowed_models": ["m" * 256]}, "allowed_models.0"),
        ({"allowed_models": [f"m{number}" for number in range(101)]}, "allowed_models"),
        ({"name": ""}, "name"),
        ({"scopes": ["write"]}, "scopes"),
        ({"expires_at": None}, "expires_at"),
        ({"monthly_tokens": 5}, "monthly_tokens"),
    ],
)
def test_it_names_what_is_wrong_with_a_limit(operator: APIClient, change: dict[str, Any], field: str) -> None:
    row = issue(requests_per_minute=60)
    response = operator.patch(f"/api-keys/{row.pk}", change)

    assert response.status_code == 400, response.json()
    assert {fault["field"] for fault in response.json()["errors"]} == {field}
    assert ApiKey.objects.get().requests_per_minute == 60


@pytest.mark.parametrize("limit", [name for name in LIMITS if name != "allowed_models"])
def test_the_database_too_refuses_a_limit_of_nothing(limit: str) -> None:
    row = issue()
    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.filter(pk=row.pk).update(**{limit: 0})


# --- who may ------------------------------------------------------------------------------------------------------


def test_one_limits_ones_own_keys_and_an_admin_those_of_all(operator: APIClient, admin: APIClient) -> None:
    theirs = issue(user(Role.ADMIN))
    ours = issue()

    assert operator.patch(f"/api-keys/{theirs.pk}", {"concurrency": 1}).status_code == 404
    assert admin.patch(f"/api-keys/{ours.pk}", {"concurrency": 1}).status_code == 200


def test_a_limited_key_frees_itself_neither_by_a_change_nor_by_another_key() -> None:
    row, key = ApiKey.issue(
        owner_id=user(Role.OPERATOR).pk, name="script", scopes=["inference", "write"], concurrency=1
    )
    client = bearing(key)

    by_change = client.patch(f"/api-keys/{row.pk}", {"concurrency": None})
    by_another = client.post("/api-keys", {"name": "free", "scopes": ["inference"]})

    for response in (by_change, by_another):
        assert response.status_code == 403
        assert response.json()["type"] == "urn:inventiv:problem:limited_key"
    assert ApiKey.objects.get().concurrency == 1


def test_a_revoked_key_is_not_changed_any_more(operator: APIClient) -> None:
    row = issue()
    operator.delete(f"/api-keys/{row.pk}")
    response = operator.patch(f"/api-keys/{row.pk}", {"concurrency": 1})

    assert response.status_code == 409
    assert "make another one" in response.json()["detail"]


# --- the router is told -------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_router_learns_of_a_change_at_once(index: redis.Redis) -> None:
    client = session(Role.OPERATOR)
    answer = client.post("/api-keys", {"name": "script", "scopes": ["inference"], **LIMITS}).json()
    row = ApiKey.objects.get()
    told = published(index, row)
    assert told == ClientKey(
        sha256=row.sha256,
        key_id=str(row.pk),
        name="script",
        expires_at=0,
        models=("acme/small",),
        requests_per_minute=60,
        tokens_per_minute=10_000,
        concurrency=4,
        monthly_tokens=5_000_000_000,
        monthly_micros=12_500_000,
    )

    client.patch(f"/api-keys/{answer['id']}", NONE)

    told = published(index, row)
    assert told is not None
    assert not told.is_limited
    assert told.models == ()


def gone(row: ApiKey) -> None:
    ApiKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now())


def expired(row: ApiKey) -> None:
    ApiKey.objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))


def owner_switched_off(row: ApiKey) -> None:
    User.objects.filter(pk=row.owner_id).update(is_active=False)


@pytest.mark.parametrize("event", [gone, expired, owner_switched_off])
def test_what_is_told_late_is_what_the_row_says_by_then(index: redis.Redis, event: Any) -> None:
    row = issue()
    key_index.publish(row)
    assert published(index, row) is not None
    event(row)

    key_index.publish(row)  # of a change that was made before, with the row as it was then

    assert published(index, row) is None


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_told_while_the_key_is_being_revoked_waits_for_that(index: redis.Redis) -> None:
    row = issue()
    key_index.publish(row)

    def tell() -> None:
        key_index.publish(row)
        connection.close()

    thread = threading.Thread(target=tell)
    with transaction.atomic():
        ApiKey.objects.filter(pk=row.pk).update(revoked_at=timezone.now())
        thread.start()
        until(somebody_waits_for_a_lock)
    thread.join(timeout=10)

    assert published(index, row) is None


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
        (waits,) = cursor.fetchone()
    return bool(waits)


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
