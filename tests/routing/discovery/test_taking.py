"""Selection, limits and the circuit breaker, as the routers share them in Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
import redis

from routing.discovery import keys, taking
from routing.discovery.directory import Admission, AllFull, Directory, NoneReady, Refused, Settlement, Wish
from routing.discovery.publisher import Publisher
from routing.discovery.records import ClientKey, Endpoint
from tests.routing.discovery.truth import MODEL, NOW, client_key, endpoint, heard, served_model

MONTH = "2026-11"


@pytest.fixture(autouse=True)
def index(publisher: Publisher) -> None:
    publisher.rebuild(endpoints=[], models=[served_model()], keys=[], heartbeats={}, now=NOW)


def add(publisher: Publisher, store: redis.Redis, *endpoints: Endpoint, load: int = 0) -> None:
    for each in endpoints:
        publisher.publish(each)
        heard(store, each.instance_id, load=load)


def field(store: redis.Redis, instance_id: str, name: str) -> str | None:
    return store.hget(keys.instance(instance_id), name)  # type: ignore[return-value]


async def taken(directory: Directory, *, wish: Wish = Wish()) -> str:  # noqa: B008 - frozen
    target, _ = await directory.take(MODEL, wish=wish)
    return target.instance_id


async def settled(directory: Directory) -> None:
    """Everything that was sent before has been done."""
    await directory.client_key("x")


# --- weights, capacities, wishes ---


async def test_a_faster_instance_gets_more(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, endpoint("slow"), replace(endpoint("fast"), weight=3.0))

    picked = Counter([await taken(directory) for _ in range(40)])

    assert picked == {"fast": 30, "slow": 10}


async def test_an_instance_gets_no_more_than_it_may_have(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, replace(endpoint("small"), capacity=2), replace(endpoint("large"), capacity=3))

    picked = Counter([await taken(directory) for _ in range(5)])

    assert picked == {"small": 2, "large": 3}
    with pytest.raises(AllFull):
        await directory.take(MODEL)


async def test_many_at_once_do_not_overfill_it(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, *(replace(endpoint(f"i-{n}"), capacity=1) for n in range(20)))

    outcomes = await asyncio.gather(*(directory.take(MODEL) for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(each, AllFull) for each in outcomes) == 30
    assert {field(store, f"i-{n}", "current_load") for n in range(20)} == {"1"}


async def test_the_preferred_one_is_taken_while_it_is_within_its_bound(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(3)))
    wish = Wish(preferred=("i-2", "i-1"), bound=4)

    assert [await taken(directory, wish=wish) for _ in range(8)] == ["i-2"] * 4 + ["i-1"] * 4
    assert await taken(directory, wish=wish) == "i-0"


async def test_a_preferred_one_that_is_gone_is_no_error(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))

    assert await taken(directory, wish=Wish(preferred=("gone",), bound=4)) == "i-1"


# --- the circuit breaker ---


async def fail(directory: Directory, *, at_once: bool, times: int = 1) -> float:
    target, _ = await directory.take(MODEL)
    out_for = 0.0
    for _ in range(times):
        out_for = await directory.failed(target, at_once=at_once)
    directory.release(target)
    return out_for


def later(store: redis.Redis, instance_id: str, seconds: float) -> None:
    """As if so much time had passed for its ejection."""
    until = float(field(store, instance_id, "ejected_until") or 0)
    store.hset(keys.instance(instance_id), "ejected_until", until - seconds * 1e6)


async def test_one_that_refuses_is_taken_out_for_all_routers(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    assert await fail(directory, at_once=True) == 2
    add(publisher, store, endpoint("i-2"), load=50)

    assert [await taken(directory) for _ in range(5)] == ["i-2"] * 5


async def test_one_that_answers_badly_is_taken_out_after_five_times_in_a_row(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))

    assert [await fail(directory, at_once=False) for _ in range(5)] == [0, 0, 0, 0, 2]


async def test_a_success_in_between_begins_the_count_anew(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    await fail(directory, at_once=False, times=4)

    target, _ = await directory.take(MODEL)
    assert target.ailing
    directory.recovered(target)

    assert await fail(directory, at_once=False, times=4) == 0
    target, _ = await directory.take(MODEL)
    assert target.ailing


async def test_after_its_time_one_request_at_a_time_tries_it(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    await fail(directory, at_once=True)
    add(publisher, store, endpoint("i-2"), load=50)
    later(store, "i-1", 2)

    assert [await taken(directory) for _ in range(3)] == ["i-1", "i-2", "i-2"]


async def test_a_probe_that_succeeds_closes_the_circuit(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    await fail(directory, at_once=True)
    later(store, "i-1", 2)

    target, _ = await directory.take(MODEL)
    directory.recovered(target)
    await settled(directory)

    assert store.hmget(keys.instance("i-1"), taking.AILMENTS) == [None] * len(taking.AILMENTS)


async def test_a_probe_that_fails_doubles_the_time_up_to_a_minute(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    times: list[float] = []
    for _ in range(7):
        times.append(await fail(directory, at_once=False, times=5 if not times else 1))
        later(store, "i-1", 60)

    assert times == [2, 4, 8, 16, 32, 60, 60]


async def test_requests_that_were_on_their_way_to_it_count_once(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    target, _ = await directory.take(MODEL)

    assert [await directory.failed(target, at_once=True) for _ in range(3)] == [2, 0, 0]


async def test_when_all_are_out_one_is_tried_all_the_same(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    await fail(directory, at_once=True)

    assert await taken(directory) == "i-1"


async def test_a_failure_never_brings_back_a_hash_that_is_gone(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    target, _ = await directory.take(MODEL)
    publisher.withdraw("i-1", MODEL)

    assert await directory.failed(target, at_once=True) == 0
    directory.recovered(target)
    await settled(directory)

    assert not store.exists(keys.instance("i-1"))


# --- limits ---


def limited(**limits: int) -> ClientKey:
    return replace(client_key("inv_limited"), **limits)  # type: ignore[arg-type]


async def admit(directory: Directory, key: ClientKey, *, tokens: int = 10) -> Admission:
    admission = Admission(key=key, tokens=tokens, month=MONTH)
    await directory.take(MODEL, admission=admission)
    return admission


async def refusal(directory: Directory, key: ClientKey, *, tokens: int = 10) -> Refused:
    with pytest.raises(Refused) as caught:
        await admit(directory, key, tokens=tokens)
    return caught.value


def as_if_ago(store: redis.Redis, key: ClientKey, seconds: float) -> None:
    """As if the key's buckets had been filling for so long."""
    at = float(store.hget(keys.limits(key.key_id), "at") or 0)
    store.hset(keys.limits(key.key_id), "at", at - seconds * 1e6)


async def test_requests_a_minute_are_a_bucket_that_fills(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(requests_per_minute=3)
    for _ in range(3):
        await admit(directory, key)

    refused = await refusal(directory, key)
    assert (refused.what, 15_000 < refused.retry_after_ms <= 20_000) == ("requests", True)

    as_if_ago(store, key, 20)
    await admit(directory, key)
    assert (await refusal(directory, key)).what == "requests"


async def test_the_client_is_told_what_is_left(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, endpoint("i-1"))
    admission = Admission(key=limited(requests_per_minute=60, tokens_per_minute=600), tokens=100, month=MONTH)

    _, allowance = await directory.take(MODEL, admission=admission)

    assert allowance is not None
    assert (allowance.requests, allowance.requests_full_in) == (59, 1000)
    assert (allowance.tokens, allowance.tokens_full_in) == (500, 10_000)


async def test_tokens_are_reserved_and_settled(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(tokens_per_minute=1000)
    first = await admit(directory, key, tokens=900)
    assert (await refusal(directory, key, tokens=200)).what == "tokens"

    directory.settle(Settlement(first, tokens=300, micros=0))

    await admit(directory, key, tokens=600)
    assert (await refusal(directory, key, tokens=200)).what == "tokens"


async def test_what_was_reserved_too_little_is_waited_for(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(tokens_per_minute=600)
    directory.settle(Settlement(await admit(directory, key, tokens=1), tokens=1200, micros=0))

    refused = await refusal(directory, key, tokens=1)

    assert (refused.what, 55_000 < refused.retry_after_ms <= 60_200) == ("tokens", True)


async def test_a_request_larger_than_the_limit_is_let_in_when_nothing_was_used(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(tokens_per_minute=100)

    await admit(directory, key, tokens=5000)

    assert (await refusal(directory, key, tokens=1)).what == "tokens"


async def test_concurrency_is_exact_across_routers(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(4)))
    key = limited(concurrency=5)
    admission = Admission(key=key, tokens=1, month=MONTH)

    outcomes = await asyncio.gather(
        *(directory.take(MODEL, admission=admission) for _ in range(20)), return_exceptions=True
    )

    assert sum(isinstance(each, Refused) for each in outcomes) == 15
    directory.settle(Settlement(admission, tokens=1, micros=0))
    await admit(directory, key)
    assert (await refusal(directory, key)).what == "concurrency"


async def test_what_a_dead_router_ran_does_not_count(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(concurrency=2)
    store.hset(keys.running(key.key_id), mapping={"alive": 1, "dead": 1})
    store.set(keys.router("alive"), "since")

    await admit(directory, key)

    assert (await refusal(directory, key)).what == "concurrency"
    assert store.hgetall(keys.running(key.key_id)) == {"alive": "1", "the router": "1"}


@pytest.mark.parametrize("budget", [{"monthly_tokens": 100}, {"monthly_micros": 100}])
async def test_a_budget_that_is_used_up_refuses(
    directory: Directory, publisher: Publisher, store: redis.Redis, budget: dict[str, int]
) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(**budget)
    directory.settle(Settlement(await admit(directory, key), tokens=99, micros=99))
    directory.settle(Settlement(await admit(directory, key), tokens=1, micros=1))

    assert (await refusal(directory, key)).what == "budget"


async def test_a_refusal_counts_nothing(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, endpoint("i-1"))
    key = limited(requests_per_minute=1, tokens_per_minute=1000, concurrency=10)
    await admit(directory, key)
    before = store.hgetall(keys.limits(key.key_id)), store.hgetall(keys.running(key.key_id))

    await refusal(directory, key)

    assert (store.hgetall(keys.limits(key.key_id)), store.hgetall(keys.running(key.key_id))) == before
    assert field(store, "i-1", "current_load") == "1"


async def test_where_no_instance_is_ready_nothing_is_counted(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    key = limited(requests_per_minute=10, concurrency=10)

    with pytest.raises(NoneReady):
        await admit(directory, key)

    assert not store.exists(keys.limits(key.key_id), keys.running(key.key_id))


async def test_a_caller_who_is_cancelled_leaves_nothing_running(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    admission = Admission(key=limited(concurrency=5), tokens=1, month=MONTH)
    for turns in range(6):
        asking = asyncio.create_task(directory.take(MODEL, admission=admission))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if not asking.cancelled():
            directory.release(asking.result()[0])
            directory.settle(Settlement(admission, tokens=0, micros=0))

    await settled(directory)
    await settled(directory)

    assert field(store, "i-1", "current_load") in {None, "0"}
    assert store.hget(keys.running(admission.key.key_id), "the router") in {None, "0"}
