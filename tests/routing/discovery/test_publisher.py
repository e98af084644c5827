"""What the control plane writes into the discovery index."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta

import redis

from routing.discovery import keys
from routing.discovery.publisher import Publisher
from routing.discovery.records import ClientKey, Endpoint, ServedModel
from tests.routing.discovery.truth import MODEL, NOW, client_key, endpoint, heard, redis_time, served_model

MEMBERS = keys.model_instances(MODEL)


def rebuild(
    publisher: Publisher,
    endpoints: Sequence[Endpoint] = (),
    *,
    models: Sequence[ServedModel] = (),
    client_keys: Sequence[ClientKey] = (),
    heartbeats: dict[str, float] | None = None,
    as_of: float | None = None,
) -> None:
    publisher.rebuild(
        endpoints=endpoints, models=models, keys=client_keys, heartbeats=heartbeats or {}, now=NOW, as_of=as_of
    )


def status(store: redis.Redis, instance_id: str) -> object:
    return store.hget(keys.instance(instance_id), "status")


def members(store: redis.Redis) -> object:
    return store.smembers(MEMBERS)


def test_it_uses_the_names_that_our_user_specified(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1", ip="10.1.2.3", port=8001))

    assert store.smembers(f"catalog:model:{MODEL}:instances") == {"i-1"}
    written = store.hgetall("instance:i-1")
    assert (written["ip"], written["port"], written["status"]) == ("10.1.2.3", "8001", "READY")


def test_it_routes_only_what_is_ready(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1", status="BOOTING"))
    assert members(store) == set()

    publisher.publish(endpoint("i-1", status="READY"))
    assert members(store) == {"i-1"}

    publisher.publish(endpoint("i-1", status="DRAINING"))
    assert members(store) == set()
    assert status(store, "i-1") == "DRAINING"


def test_it_leaves_load_and_heartbeat_alone(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1"))
    heard(store, "i-1", load=7)
    before = store.hmget(keys.instance("i-1"), ["current_load", "worker_load", "last_heartbeat", "ready"])

    publisher.publish(endpoint("i-1", ip="10.9.9.9"))
    rebuild(publisher, [endpoint("i-1", ip="10.8.8.8")], heartbeats={"i-1": 1.0})

    assert store.hmget(keys.instance("i-1"), ["current_load", "worker_load", "last_heartbeat", "ready"]) == before
    assert store.hget(keys.instance("i-1"), "ip") == "10.8.8.8"


def test_it_gives_a_hash_a_life_that_a_publish_renews(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1"))
    store.expire(keys.instance("i-1"), 5)

    publisher.publish(endpoint("i-1"))

    assert store.ttl(keys.instance("i-1")) > keys.INSTANCE_TTL - 60


def test_it_withdraws_an_instance(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1"))

    publisher.withdraw("i-1", MODEL)

    assert not store.exists(keys.instance("i-1"))
    assert members(store) == set()


def test_it_ignores_a_publish_that_comes_after_a_later_status(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1", status="DRAINING"))

    publisher.publish(endpoint("i-1", status="READY"))

    assert status(store, "i-1") == "DRAINING"
    assert members(store) == set()


def test_it_ignores_a_publish_that_comes_after_the_withdrawal(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1"))
    publisher.withdraw("i-1", MODEL)

    publisher.publish(endpoint("i-1"))

    assert not store.exists(keys.instance("i-1"))


def test_it_keeps_a_token_that_a_late_publish_does_not_know_of(publisher: Publisher, store: redis.Redis) -> None:
    registered = endpoint("i-1", status="BOOTING")
    publisher.publish(registered)

    publisher.publish(endpoint("i-1", status="BOOTING", agent_token=""))

    assert store.hget(keys.instance("i-1"), "agent_token_sha256") == registered.agent_token_sha256


def test_it_replaces_the_models(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish_models([served_model("a/a"), served_model("b/b")])
    publisher.publish_models([served_model("b/b")])

    assert store.hkeys(keys.MODELS) == ["b/b"]

    publisher.publish_models([])
    assert store.hkeys(keys.MODELS) == []


def test_it_publishes_and_revokes_a_key(publisher: Publisher, store: redis.Redis) -> None:
    key = client_key("inv_secret", expires_at=12.5)

    publisher.publish_key(key)
    assert ClientKey.from_hash(store.hgetall(keys.api_key(key.sha256))) == key  # type: ignore[arg-type]

    publisher.revoke_key(key.sha256)
    assert not store.exists(keys.api_key(key.sha256))


def test_a_rebuild_makes_redis_equal_to_the_truth(publisher: Publisher, store: redis.Redis) -> None:
    key = client_key("inv_secret")
    publisher.publish(endpoint("stranger"))
    publisher.publish_key(client_key("inv_stranger"))
    publisher.publish(endpoint("other", model_id="forgotten/model"))
    store.sadd(MEMBERS, "member-without-a-hash")

    rebuild(
        publisher,
        [endpoint("i-1"), endpoint("i-2", status="DRAINING")],
        models=[served_model()],
        client_keys=[key],
    )

    assert set(store.scan_iter("instance:*")) == {keys.instance("i-1"), keys.instance("i-2")}
    assert set(store.scan_iter("apikey:*")) == {keys.api_key(key.sha256)}
    assert set(store.scan_iter("catalog:model:*")) == {MEMBERS}
    assert members(store) == {"i-1"}
    assert publisher.epoch() == NOW


def test_a_rebuild_keeps_the_first_epoch(publisher: Publisher) -> None:
    rebuild(publisher)
    publisher.rebuild(endpoints=[], models=[], keys=[], heartbeats={}, now=NOW + timedelta(hours=1))

    assert publisher.epoch() == NOW


def test_a_rebuild_leaves_other_keys_alone(publisher: Publisher, store: redis.Redis) -> None:
    store.set("celery-task-meta-1", "x")
    store.rpush("orchestrator_events", "a message")

    rebuild(publisher)

    assert store.exists("celery-task-meta-1", "orchestrator_events") == 2


def test_a_flush_is_seen_and_the_rebuild_seeds_the_last_heartbeats(publisher: Publisher, store: redis.Redis) -> None:
    rebuild(publisher, [endpoint("i-1")])
    store.flushall()
    assert publisher.epoch() is None

    rebuild(publisher, [endpoint("i-1"), endpoint("i-2")], heartbeats={"i-1": 1234.5})

    pulse = publisher.pulses(["i-1", "i-2"])["i-1"]
    assert (pulse.last_heartbeat, pulse.ready, pulse.current_load) == (1234.5, True, 0)
    assert "i-2" not in publisher.pulses(["i-2"])


def test_a_rebuild_yields_to_what_was_told_after_its_data_was_read(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("draining"))
    publisher.publish(endpoint("gone"))
    key = client_key("inv_revoked")
    as_of = publisher.clock()
    read = [endpoint("draining"), endpoint("gone")]  # and then the world moves on:
    publisher.publish(endpoint("draining", status="DRAINING"))
    publisher.withdraw("gone", MODEL)
    publisher.publish(endpoint("new"))
    publisher.revoke_key(key.sha256)

    rebuild(publisher, read, client_keys=[key], as_of=as_of)

    assert status(store, "draining") == "DRAINING"
    assert not store.exists(keys.instance("gone"), keys.api_key(key.sha256))
    assert members(store) == {"new"}


def test_a_rebuild_overrules_what_was_told_before_its_data_was_read(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1", status="FAILED"))
    publisher.withdraw("i-2", MODEL)

    rebuild(publisher, [endpoint("i-1"), endpoint("i-2")], as_of=publisher.clock())

    assert members(store) == {"i-1", "i-2"}


def test_a_rebuild_that_a_flush_overtakes_does_not_call_the_index_whole(
    publisher: Publisher, store: redis.Redis
) -> None:
    class FlushedHalfWay(Publisher):
        def publish_models(self, models: Sequence[ServedModel]) -> None:
            super().publish_models(models)
            store.flushall()

    rebuild(FlushedHalfWay(store), [endpoint("i-1")])
    assert publisher.epoch() is None

    rebuild(publisher, [endpoint("i-1")])
    assert publisher.epoch() == NOW


def test_a_rebuild_of_ten_thousand_leaves_no_gap_and_never_holds_redis_long(
    publisher: Publisher, store: redis.Redis
) -> None:
    fleet = [endpoint(f"i-{n}") for n in range(10_000)]
    rebuild(publisher, fleet)
    store.config_resetstat()
    gaps = []
    done = threading.Event()

    def watch() -> None:
        with redis.Redis(connection_pool=store.connection_pool) as client:
            while not done.is_set():
                if client.scard(MEMBERS) != 10_000:
                    gaps.append(client.scard(MEMBERS))

    watcher = threading.Thread(target=watch)
    watcher.start()
    rebuild(publisher, fleet)
    done.set()
    watcher.join()

    assert not gaps
    calls = store.info("commandstats")["cmdstat_evalsha"]
    assert calls["calls"] < 200
    assert calls["usec_per_call"] < 10_000


def test_pulses_say_what_routers_and_workers_wrote(publisher: Publisher, store: redis.Redis) -> None:
    publisher.publish(endpoint("i-1"))
    heard(store, "i-1", ready=False, load=3)
    store.hset(keys.instance("i-1"), "detail", "loading weights")

    pulse = publisher.pulses(["i-1", "unheard"])["i-1"]

    assert abs(pulse.last_heartbeat - redis_time(store)) < 5
    assert (pulse.ready, pulse.worker_load, pulse.current_load, pulse.detail) == (False, 3, 3, "loading weights")


def test_it_knows_since_when_a_router_lives(publisher: Publisher, store: redis.Redis) -> None:
    assert publisher.routers_alive_since() is None

    for router_id, started in (("old", NOW), ("new", NOW + timedelta(minutes=1))):
        store.sadd(keys.ROUTERS, router_id)
        store.set(keys.router(router_id), started.isoformat())
    assert publisher.routers_alive_since() == NOW

    store.delete(keys.router("old"))
    assert publisher.routers_alive_since() == NOW + timedelta(minutes=1)
    assert store.smembers(keys.ROUTERS) == {"new"}
