"""The router as a process: its settings, its presence, its end."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys

import httpx

from routing.discovery import keys
from routing.discovery.publisher import Publisher
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.conftest import StartRouter
from tests.routing.router.fleet import Fleet, until
from tests.routing.router.process import ENCRYPTION_KEY

FINE = {"REDIS_URL": "redis://localhost", "ENCRYPTION_KEYS": ENCRYPTION_KEY}


def start(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "routing.router"],
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_wrong_setting_is_one_line_that_names_it() -> None:
    for settings, name in (({}, "REDIS_URL"), (FINE | {"ROUTER_HOST": "no.such.host.invalid"}, "ROUTER_HOST")):
        ended = start(settings)

        assert ended.returncode == 2
        assert ended.stdout == ""
        assert ended.stderr.startswith(f"router: {name}")
        assert ended.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_that_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        ended = start(FINE | {"ROUTER_PORT": str(taken.getsockname()[1])})

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("router: ROUTER_PORT")


def test_it_imports_no_django() -> None:
    code = "import sys, routing.router.server; sys.exit(any(name.startswith('django') for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_it_makes_itself_known_for_as_long_as_it_lives(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        publisher = Publisher(store)
        await until(lambda: publisher.routers_alive_since() is not None)

        store.flushall()
        await until(lambda: publisher.routers_alive_since() is not None)

        (router_id,) = store.smembers(keys.ROUTERS)
        assert 0 < store.ttl(keys.router(router_id)) <= keys.ROUTER_TTL

        assert router.stop() == 0
        assert publisher.routers_alive_since() is None


async def test_sigterm_lets_a_stream_end_and_releases_its_load(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        behaviour = engines.stream(engines.chat_chunk("first"), then="wait")
        async with engines.running(behaviour) as engine, fleet.client() as client:
            instance_id = fleet.add(engine.port)
            stream = await client.chat.completions.create(model=fleet.model, messages=[], stream=True)
            await anext(aiter(stream))

            router.process.terminate()
            await until(lambda: not accepts(router.port))
            engine.go_on.set()

            assert [chunk async for chunk in stream] == []
            assert await asyncio.to_thread(router.process.wait, 10) == 0
            assert fleet.load(instance_id) == 0


async def test_a_stream_that_does_not_end_is_ended_after_the_drain_time_out(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    router = start_router(own_redis.url, ROUTER_DRAIN_TIMEOUT="1")
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(engines.stream("first", then="wait")) as engine,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            instance_id = fleet.add(engine.port)
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=fleet.chat))
            await until(lambda: len(engine.requests) == 1)

            router.process.terminate()

            assert "being stopped" in (await asking).text
            assert await asyncio.to_thread(router.process.wait, 10) == 0
            assert (fleet.load(instance_id), engine.connections) == (0, 0)
            assert "Traceback" not in router.log.read_text()


async def test_a_killed_router_leaves_a_wrong_load_until_the_next_heartbeat(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with (
            engines.running(engines.hang) as engine,
            httpx.AsyncClient(base_url=router.url, headers=fleet.headers, timeout=20) as client,
        ):
            instance_id = fleet.add(engine.port)
            asking = asyncio.create_task(client.post("/v1/chat/completions", json=fleet.chat))
            await until(lambda: len(engine.requests) == 1)
            router.kill()
            await asyncio.gather(asking, return_exceptions=True)
            assert fleet.load(instance_id) == 1

            fleet.router = start_router(own_redis.url)
            async with httpx.AsyncClient(base_url=fleet.router.url) as agent:
                await agent.post(
                    "/internal/heartbeat",
                    json={"instance_id": instance_id, "ready": True, "load": 0},
                    headers={"authorization": "Bearer the agent's token"},
                )

            assert fleet.load(instance_id) == 0


async def test_several_workers_share_the_port(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url, ROUTER_WORKERS="2")
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with engines.running(engines.answer(engines.chat_completion())) as engine, fleet.client() as client:
            fleet.add(engine.port)
            await until(lambda: store.scard(keys.ROUTERS) == 2)

            await client.chat.completions.create(model=fleet.model, messages=[])

        assert router.stop() == 0


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
