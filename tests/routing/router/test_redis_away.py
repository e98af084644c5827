"""Redis flushed, stopped and started again under a router that serves."""

from __future__ import annotations

import asyncio
import time

import httpx

from routing.discovery import keys
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.conftest import StartRouter
from tests.routing.router.fleet import Fleet, until

FINE = engines.answer(engines.chat_completion("fine"))


def serves(fleet: Fleet) -> bool:
    with httpx.Client(base_url=fleet.router.url, headers=fleet.headers) as client:
        return client.get("/readyz").status_code == 200


async def chat(client: httpx.AsyncClient, fleet: Fleet) -> int:
    return (await client.post("/v1/chat/completions", json=fleet.chat)).status_code


async def warm(client: httpx.AsyncClient, fleet: Fleet) -> None:
    """Serve once, and wait for a snapshot that holds what was added."""
    assert await chat(client, fleet) == 200
    calls = int(fleet.store.info("commandstats")["cmdstat_evalsha"]["calls"])
    await until(lambda: int(fleet.store.info("commandstats")["cmdstat_evalsha"]["calls"]) > calls + 6)


async def test_a_flush_is_bridged_and_nothing_valid_is_refused(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(FINE) as engine,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            instance_id = fleet.add(engine.port)
            await warm(client, fleet)

            store.flushall()

            assert [await chat(client, fleet) for _ in range(20)] == [200] * 20
            assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == [fleet.model]
            stranger = httpx.AsyncClient(base_url=router.url, headers={"authorization": "Bearer inv_never_seen"})
            async with stranger:
                assert (await stranger.get("/v1/models")).status_code == 503
            assert not store.exists(keys.instance(instance_id))

            fleet.rebuild()
            assert await chat(client, fleet) == 200
            await until(lambda: fleet.load(instance_id) == 0)


async def test_redis_stopped_and_started_is_bridged(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(FINE) as engine,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            instance_id = fleet.add(engine.port)
            await warm(client, fleet)

            own_redis.stop()
            assert [await chat(client, fleet) for _ in range(20)] == [200] * 20

            own_redis.start()
            fleet.rebuild()
            fleet.add(engine.port)
            async with asyncio.timeout(10):
                while fleet.publisher.routers_alive_since() is None:
                    assert await chat(client, fleet) == 200
            assert await chat(client, fleet) == 200
            await until(lambda: fleet.load(instance_id) == 0)


async def test_a_frozen_redis_delays_no_request_for_long(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(FINE) as engine,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            fleet.add(engine.port)
            await warm(client, fleet)

            own_redis.freeze()
            began = time.monotonic()
            assert [await chat(client, fleet) for _ in range(10)] == [200] * 10
            assert time.monotonic() - began < 5

            own_redis.thaw()
            async with asyncio.timeout(10):
                while fleet.publisher.routers_alive_since() is None:
                    assert await chat(client, fleet) == 200


async def test_without_redis_a_dead_worker_is_passed_over(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(FINE) as engine,
            engines.running(FINE) as dying,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            fleet.add(engine.port)
            fleet.add(dying.port)
            await warm(client, fleet)
            own_redis.stop()
            dying.die()

            assert [await chat(client, fleet) for _ in range(10)] == [200] * 10


async def test_after_the_snapshots_age_it_asks_to_come_back(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url, ROUTER_SNAPSHOT_MAX_AGE="1.5")
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(FINE) as engine,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            fleet.add(engine.port)
            await warm(client, fleet)
            own_redis.stop()

            await until(lambda: not serves(fleet))

            answer = await client.post("/v1/chat/completions", json=fleet.chat)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_ready_instance")
            assert "retry-after" in answer.headers
            ready = await client.get("/readyz")
            assert (ready.status_code, "Redis" in ready.json()["reason"]) == (503, True)
            assert (await client.get("/healthz")).status_code == 200


async def test_it_starts_without_redis_and_serves_when_it_is_there(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    own_redis.stop()
    router = start_router(own_redis.url)
    async with engines.running(FINE) as engine, httpx.AsyncClient(base_url=router.url, timeout=20) as client:
        assert (await client.get("/readyz")).status_code == 503

        own_redis.start()
        with own_redis.client() as store:
            fleet = Fleet(router=router, store=store)
            fleet.add(engine.port)
            await until(lambda: serves(fleet))
            client.headers.update(fleet.headers)
            assert await chat(client, fleet) == 200
