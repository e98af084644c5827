"""A router that is killed in the middle of its streams: what it had counted is put right by those who live."""

from __future__ import annotations

import asyncio

import httpx

from routing.discovery import keys
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import agent
from tests.routing.router import engine as engines
from tests.routing.router.bare_client import chat_request, crowd
from tests.routing.router.conftest import StartRouter
from tests.routing.router.engine import Engine
from tests.routing.router.fleet import Fleet, until

STREAMS = 50
STREAM = engines.stream(engines.chat_chunk("first"), then="wait")
FINE = engines.answer(engines.chat_completion("fine"))


async def test_its_load_is_wrong_until_the_workers_next_heartbeat(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    with own_redis.client() as store:
        fleet = Fleet(router=start_router(own_redis.url), store=store)
        async with engines.running(STREAM) as engine:
            instance_id = fleet.add(engine.port)
            survivor = start_router(own_redis.url)
            await kill_in_mid_stream(fleet, engine)
            assert fleet.load(instance_id) == STREAMS

            agent.beat(survivor, instance_id, load=0)

            assert fleet.load(instance_id) == 0
            fleet.router, engine.behaviour = survivor, FINE
            assert (await chat(fleet)).status_code == 200
            await until(lambda: fleet.load(instance_id) == 0)


async def test_a_heartbeat_keeps_what_other_routers_have_under_way(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    with own_redis.client() as store:
        fleet = Fleet(router=start_router(own_redis.url), store=store)
        async with engines.running(STREAM) as engine:
            instance_id = fleet.add(engine.port)
            survivor = start_router(own_redis.url)
            async with crowd(survivor.port, 10) as clients:
                for client in clients:
                    await client.send(chat_request(fleet, stream=True))
                    await client.read_until(b"first")
                await kill_in_mid_stream(fleet, engine)
                assert fleet.load(instance_id) == STREAMS + 10

                agent.beat(survivor, instance_id, load=engine.connections)

                assert fleet.load(instance_id) == 10
                engine.go_on.set()
                await asyncio.gather(*(client.read_until(b"[DONE]") for client in clients))
                await until(lambda: fleet.load(instance_id) == 0)


async def test_its_keys_places_are_free_once_its_presence_has_ended(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    with own_redis.client() as store:
        fleet = Fleet(router=start_router(own_redis.url), store=store)
        fleet.limit(concurrency=STREAMS)
        async with engines.running(STREAM) as engine:
            fleet.add(engine.port)
            (dead,) = store.smembers(keys.ROUTERS)
            survivor = start_router(own_redis.url)
            await kill_in_mid_stream(fleet, engine)
            fleet.router, engine.behaviour = survivor, FINE

            refused = await chat(fleet)
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
            assert 0 < store.ttl(keys.router(dead)) <= keys.ROUTER_TTL

            store.delete(keys.router(dead))  # as it ends by itself within ROUTER_TTL

            assert (await chat(fleet)).status_code == 200
            assert dead not in store.hgetall(keys.running(fleet.keys[0].key_id))


async def kill_in_mid_stream(fleet: Fleet, engine: Engine) -> None:
    before = engine.connections
    async with crowd(fleet.router.port, STREAMS) as clients:
        await asyncio.gather(*(client.send(chat_request(fleet, stream=True)) for client in clients))
        await asyncio.gather(*(client.read_until(b"first") for client in clients))

        fleet.router.kill()

        for client in clients:
            assert b"[DONE]" not in await client.read_rest()
    await until(lambda: engine.connections == before)


async def chat(fleet: Fleet) -> httpx.Response:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json=fleet.chat)
