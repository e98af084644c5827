"""What the router reads from the index and counts in it."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import redis

from routing.discovery import keys
from routing.discovery.directory import SCRIPTS, Directory, Heard, IndexLost, NoneReady, UnknownModel, Wish
from routing.discovery.link import Link
from routing.discovery.publisher import Publisher
from routing.discovery.records import Endpoint, Heartbeat
from routing.discovery.snapshot import Snapshot
from tests.routing.discovery.truth import (
    AGENT_TOKEN,
    MODEL,
    NOW,
    client_key,
    endpoint,
    heard,
    redis_time,
    served_model,
    sha256,
)


@pytest.fixture(autouse=True)
def index(publisher: Publisher) -> None:
    """A whole index that knows one model."""
    publisher.rebuild(endpoints=[], models=[served_model()], keys=[], heartbeats={}, now=NOW)


def add(publisher: Publisher, store: redis.Redis, *endpoints: Endpoint, load: int = 0) -> None:
    for each in endpoints:
        publisher.publish(each)
        heard(store, each.instance_id, load=load)


def load(store: redis.Redis, instance_id: str) -> int:
    return int(store.hget(keys.instance(instance_id), "current_load") or 0)


async def test_it_takes_the_least_loaded_and_counts(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("busy"), load=5)
    add(publisher, store, endpoint("idle", ip="10.0.0.2", port=9000, api_key="its key"))

    target, _ = await directory.take(MODEL)

    assert (target.instance_id, target.ip, target.port, target.api_key) == ("idle", "10.0.0.2", 9000, "its key")
    assert load(store, "idle") == 1

    directory.release(target)
    await directory.client_key("x")  # behind the release, on the same connection
    assert load(store, "idle") == 0


async def test_it_spreads_equal_instances(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(4)))

    picked = Counter([(await directory.take(MODEL))[0].instance_id for _ in range(40)])

    assert set(picked.values()) == {10}


async def test_it_balances_a_large_fleet(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(100)))

    picked = Counter([(await directory.take(MODEL))[0].instance_id for _ in range(1000)])

    assert max(picked.values()) <= 14  # two choices: mean 10, and hardly more


async def test_no_instance_gets_two_before_all_have_one_under_concurrency(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(8)))

    taken = await asyncio.gather(*(directory.take(MODEL) for _ in range(8)))

    assert len({target.instance_id for target, _ in taken}) == 8


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "DRAINING"},
        {"status": "BOOTING"},
        {"ready": "0"},
        {"last_heartbeat": "1.0"},
    ],
)
async def test_it_never_picks_what_is_not_ready(
    directory: Directory, publisher: Publisher, store: redis.Redis, fields: dict[str, str]
) -> None:
    add(publisher, store, endpoint("i-1"))
    store.hset(keys.instance("i-1"), mapping=fields)  # type: ignore[arg-type]

    with pytest.raises(NoneReady):
        await directory.take(MODEL)


async def test_it_never_picks_what_was_never_heard(directory: Directory, publisher: Publisher) -> None:
    publisher.publish(endpoint("i-1"))

    with pytest.raises(NoneReady):
        await directory.take(MODEL)


async def test_it_never_picks_what_is_excluded(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, endpoint("i-1"), endpoint("i-2"))

    assert (await directory.take(MODEL, wish=Wish(excluded=("i-1",))))[0].instance_id == "i-2"
    with pytest.raises(NoneReady):
        await directory.take(MODEL, wish=Wish(excluded=("i-1", "i-2")))


async def test_it_finds_the_only_ready_one_among_many_stale(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(1000)))
    for n in range(999):
        store.hset(keys.instance(f"i-{n}"), "last_heartbeat", "1.0")

    assert (await directory.take(MODEL))[0].instance_id == "i-999"


async def test_it_tells_an_unknown_model_from_one_that_is_not_served(directory: Directory) -> None:
    with pytest.raises(NoneReady):
        await directory.take(MODEL)
    with pytest.raises(UnknownModel):
        await directory.take("no/such-model")


async def test_a_flushed_index_knows_that_it_knows_nothing(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    store.flushall()

    with pytest.raises(IndexLost):
        await directory.take(MODEL)
    with pytest.raises(IndexLost):
        await directory.client_key(sha256("inv_valid"))
    with pytest.raises(IndexLost):
        await directory.served_models()


async def test_a_release_never_brings_back_a_hash_that_is_gone(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    target, _ = await directory.take(MODEL)
    publisher.withdraw("i-1", MODEL)

    directory.release(target)
    await directory.client_key("x")

    assert not store.exists(keys.instance("i-1"))


async def test_a_release_stops_at_zero(directory: Directory, publisher: Publisher, store: redis.Redis) -> None:
    add(publisher, store, endpoint("i-1"))
    target, _ = await directory.take(MODEL)
    heard(store, "i-1", load=0)

    directory.release(target)
    directory.release(target)
    await directory.client_key("x")

    assert load(store, "i-1") == 0


async def test_a_caller_who_is_cancelled_leaves_no_load(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    add(publisher, store, endpoint("i-1"))
    for turns in range(6):  # cancelled before it is sent, on the way, and when the answer is there
        asking = asyncio.create_task(directory.take(MODEL))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if not asking.cancelled():
            directory.release(asking.result()[0])

    for _ in range(2):
        await directory.client_key("x")

    assert load(store, "i-1") == 0


async def beat(
    directory: Directory, instance_id: str, *, token: str = AGENT_TOKEN, address: str = "10.0.0.1", load: int = 0
) -> tuple[Heard, str]:
    said = Heartbeat(instance_id, ready=True, load=load, detail="fine", interruption="soon")
    return await directory.heartbeat(said, token_sha256=sha256(token), address=address)


async def test_a_heartbeat_sets_load_health_and_time(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    publisher.publish(endpoint("i-1", status="DRAINING"))
    store.hset(keys.instance("i-1"), "current_load", 50)
    store.expire(keys.instance("i-1"), 5)

    assert await beat(directory, "i-1", load=3) == (Heard.HEARD, "DRAINING")

    pulse = publisher.pulses(["i-1"])["i-1"]
    assert (pulse.ready, pulse.worker_load, pulse.current_load) == (True, 3, 3)
    assert (pulse.detail, pulse.interruption) == ("fine", "soon")
    assert 0 <= redis_time(store) - pulse.last_heartbeat < 5
    assert store.ttl(keys.instance("i-1")) > 60


async def test_a_heartbeat_needs_the_instances_own_token(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    publisher.publish(endpoint("i-1"))
    publisher.publish(endpoint("unregistered", agent_token=""))

    assert await beat(directory, "i-1", token="wrong") == (Heard.WRONG_TOKEN, "")
    assert await beat(directory, "unregistered", token="") == (Heard.WRONG_TOKEN, "")
    assert publisher.pulses(["i-1", "unregistered"]) == {}


async def test_a_heartbeat_needs_the_instances_own_address(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    publisher.publish(endpoint("i-1"))
    await beat(directory, "i-1", load=2)
    before = store.hgetall(keys.instance("i-1"))

    assert await beat(directory, "i-1", address="10.0.0.2", load=7) == (Heard.WRONG_ADDRESS, "")
    assert store.hgetall(keys.instance("i-1")) == before


async def test_one_that_is_refused_is_never_picked(directory: Directory, publisher: Publisher) -> None:
    publisher.publish(endpoint("i-1"))

    await beat(directory, "i-1", address="10.0.0.2")
    await beat(directory, "i-1", token="wrong")

    with pytest.raises(NoneReady):
        await directory.take(MODEL)


async def test_an_instance_without_an_address_is_not_known_yet(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    publisher.publish(endpoint("i-1", ip=""))

    assert await beat(directory, "i-1", address="") == (Heard.UNKNOWN, "")
    assert publisher.take_refusals() == []


async def test_refusals_are_counted_by_reason_and_address(directory: Directory, publisher: Publisher) -> None:
    publisher.publish(endpoint("i-1"))

    await beat(directory, "i-1", token="wrong", address="10.0.0.2")
    await beat(directory, "i-1", address="10.0.0.2")
    await beat(directory, "i-1", address="10.0.0.2")
    await beat(directory, "i-1", address="2001:db8::2")

    refusals = {(each.reason, each.address): each for each in publisher.take_refusals()}
    assert {key: each.times for key, each in refusals.items()} == {
        ("token", "10.0.0.2"): 1,
        ("address", "10.0.0.2"): 2,
        ("address", "2001:db8::2"): 1,
    }
    twice = refusals["address", "10.0.0.2"]
    assert (twice.instance_id, twice.first_at < twice.last_at) == ("i-1", True)


async def test_whoever_is_refused_from_many_addresses_does_not_fill_redis(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    publisher.publish(endpoint("i-1"))

    for number in range(keys.REFUSALS_KEPT + 20):
        await beat(directory, "i-1", address=f"10.1.{number // 256}.{number % 256}")
    await beat(directory, "i-1", address="10.1.0.0")

    assert store.hlen(keys.REFUSALS) == keys.REFUSALS_KEPT
    assert max(each.times for each in publisher.take_refusals()) == 2


async def test_a_token_is_not_wrong_while_the_right_one_is_not_known(
    directory: Directory, publisher: Publisher
) -> None:
    publisher.publish(endpoint("unregistered", agent_token=""))

    await beat(directory, "unregistered")

    assert publisher.take_refusals() == []


async def test_refusals_come_again_until_they_are_forgotten(directory: Directory, publisher: Publisher) -> None:
    publisher.publish(endpoint("i-1"))
    await beat(directory, "i-1", token="wrong", address="10.0.0.2")
    taken = publisher.take_refusals()
    await beat(directory, "i-1", token="wrong", address="10.0.0.2")

    assert publisher.take_refusals() == taken
    publisher.forget_refusals(taken)
    (later,) = publisher.take_refusals()
    publisher.forget_refusals(taken)  # late: another has taken what came since

    assert (later.times, later.last_at > taken[0].last_at) == (1, True)
    assert publisher.take_refusals() == [later]


async def test_a_heartbeat_of_an_unknown_instance_creates_nothing(directory: Directory, store: redis.Redis) -> None:
    assert await beat(directory, "i-1") == (Heard.UNKNOWN, "")
    assert not store.exists(keys.instance("i-1"))

    store.flushall()
    assert await beat(directory, "i-1") == (Heard.LOST, "")
    assert not store.exists(keys.instance("i-1"))


async def test_it_finds_a_key(directory: Directory, publisher: Publisher) -> None:
    key = client_key("inv_secret", expires_at=5)
    publisher.publish_key(key)

    assert await directory.client_key(key.sha256) == key
    assert await directory.client_key(sha256("inv_other")) is None


async def test_a_key_that_was_good_stays_good_while_the_index_is_lost(
    directory: Directory, publisher: Publisher, store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = client_key("inv_secret")
    publisher.publish_key(key)
    await directory.client_key(key.sha256)
    monkeypatch.setattr("routing.discovery.directory._KEY_TRUSTED_FOR", 0)

    store.flushall()

    assert await directory.client_key(key.sha256) == key


async def test_it_lists_the_models_that_are_served(
    directory: Directory, publisher: Publisher, store: redis.Redis
) -> None:
    publisher.publish_models([served_model(), served_model("un/served")])
    add(publisher, store, endpoint("i-1"))

    assert await directory.served_models() == [served_model()]


async def test_the_snapshot_holds_what_takes_requests(link: Link, publisher: Publisher, store: redis.Redis) -> None:
    snapshot = Snapshot(link, stale_after=15, max_age=60)
    assert not snapshot.usable
    add(publisher, store, *(endpoint(f"i-{n}") for n in range(300)))
    store.hset(keys.instance("i-7"), "ready", "0")

    await snapshot.redraw()

    assert snapshot.usable
    assert snapshot.models == {MODEL: served_model()}
    assert {each.target.instance_id for each in snapshot.crowd(MODEL).candidates} == {f"i-{n}" for n in range(300)} - {
        "i-7"
    }


async def test_the_snapshot_outlives_a_flush(link: Link, publisher: Publisher, store: redis.Redis) -> None:
    snapshot = Snapshot(link, stale_after=15, max_age=60)
    add(publisher, store, endpoint("i-1"))
    await snapshot.redraw()

    store.flushall()
    await snapshot.redraw()

    assert snapshot.usable
    assert [each.target.instance_id for each in snapshot.crowd(MODEL).candidates] == ["i-1"]


async def test_every_script_is_known_by_its_digest(link: Link) -> None:
    for script in SCRIPTS:
        assert await link.command("SCRIPT", "EXISTS", script.sha) == [1]
