"""Redis killed, flushed and frozen under fifty clients: nobody gets an error of ours, and the counters come right."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from routing.discovery import keys
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import agent
from tests.routing.router import engine as engines
from tests.routing.router.bare_client import BareClient, chat_request, crowd
from tests.routing.router.conftest import StartRouter
from tests.routing.router.engine import Engine
from tests.routing.router.fleet import Fleet, until

CLIENTS, STREAMS = 50, 10
AT_ONCE = 20
FINE = engines.answer(engines.chat_completion("fine"))
STREAM = engines.stream(engines.chat_chunk("first"), then="wait")


async def test_redis_killed_and_started_empty(own_redis: RedisServer, start_router: StartRouter) -> None:
    async with storm(own_redis, start_router) as scene:
        own_redis.stop()
        await scene.until_more_answers(100)

        own_redis.start()
        await scene.until_seen_by_router()
        await scene.until_more_answers(100)
        scene.fleet.rebuild()


async def test_redis_flushed(own_redis: RedisServer, start_router: StartRouter) -> None:
    async with storm(own_redis, start_router) as scene:
        scene.fleet.store.flushall()
        await scene.until_more_answers(100)
        scene.fleet.rebuild()


async def test_redis_flushed_again_and_again(own_redis: RedisServer, start_router: StartRouter) -> None:
    async with storm(own_redis, start_router) as scene:
        for _ in range(10):
            scene.fleet.store.flushall()
            await scene.until_more_answers(10)
            scene.fleet.rebuild()
            await scene.until_more_answers(10)


async def test_redis_frozen(own_redis: RedisServer, start_router: StartRouter) -> None:
    async with storm(own_redis, start_router) as scene:
        own_redis.freeze()
        # It holds up who waits for an answer, then nobody: after about three seconds, not even a new connection.
        await until(lambda: "Redis is away" in scene.fleet.router.log.read_text())
        await scene.until_more_answers(100)

        own_redis.thaw()
        await until(lambda: "Redis is back" in scene.fleet.router.log.read_text())


async def test_what_ended_while_redis_was_frozen_does_not_count_as_running_for_ever(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    with own_redis.client() as store:
        fleet = Fleet(router=start_router(own_redis.url), store=store)
        fleet.limit(concurrency=AT_ONCE)
        async with engines.running(streams_or_fine) as engine, crowd(fleet.router.port, STREAMS) as streams:
            scene = Scene(fleet, engine, fleet.add(engine.port))
            await begin(fleet, streams)
            assert scene.running == STREAMS
            own_redis.freeze()
            await until(lambda: "Redis is away" in fleet.router.log.read_text())

            await ends_whole(scene, streams)
            own_redis.thaw()
            await until(lambda: "Redis is back" in fleet.router.log.read_text())

            await counts_right(scene)


@dataclass
class Scene:
    fleet: Fleet
    engine: Engine
    instance_id: str
    answers: Counter[str] = field(default_factory=Counter)  # by status; a 503 that says when to come back apart

    async def until_more_answers(self, count: int) -> None:
        wanted = self.answers.total() + count
        await until(lambda: self.answers.total() >= wanted, within=20)

    async def until_seen_by_router(self) -> None:
        await until(lambda: self.fleet.publisher.routers_alive_since() is not None)

    @property
    def running(self) -> int:
        """Requests that count against the key's concurrency."""
        running = self.fleet.store.hvals(keys.running(self.fleet.keys[0].key_id))
        return sum(int(each) for each in running)


@asynccontextmanager
async def storm(own_redis: RedisServer, start_router: StartRouter) -> AsyncIterator[Scene]:
    """What happens inside happens to Redis, under load. Afterwards everything must be as if it had not been."""
    with own_redis.client() as store:
        fleet = Fleet(router=start_router(own_redis.url), store=store)
        fleet.limit(concurrency=4 * CLIENTS)
        async with engines.running(streams_or_fine) as engine, crowd(fleet.router.port, STREAMS) as streams:
            scene = Scene(fleet, engine, fleet.add(engine.port))
            await begin(fleet, streams)
            async with clients(scene):
                await scene.until_more_answers(100)
                yield scene
                await serves_again(scene)
            await ends_whole(scene, streams)
            await counts_right(scene)


async def streams_or_fine(engine: Engine, request: engines.Request, writer: asyncio.StreamWriter) -> bool:
    chosen = STREAM if b'"stream": true' in request.body else FINE
    return await chosen(engine, request, writer)


async def begin(fleet: Fleet, streams: list[BareClient]) -> None:
    for client in streams:
        await client.send(chat_request(fleet, stream=True, headers="connection: close\r\n"))
        await client.read_until(b"first")


@asynccontextmanager
async def clients(scene: Scene) -> AsyncIterator[None]:
    """They ask as fast as they are answered."""
    fleet, over = scene.fleet, asyncio.Event()

    async def keep_asking(client: httpx.AsyncClient) -> None:
        while not over.is_set():
            answer = await client.post("/v1/chat/completions", json=fleet.chat)
            come_back = " with Retry-After" if "retry-after" in answer.headers else ""
            scene.answers[f"{answer.status_code}{come_back}"] += 1

    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20, limits=limits) as client:
        asking = [asyncio.create_task(keep_asking(client)) for _ in range(CLIENTS)]
        try:
            yield
        finally:
            over.set()
            await asyncio.gather(*asking)


async def serves_again(scene: Scene) -> None:
    """The worker is heard once, and requests go through Redis again."""
    agent.beat(scene.fleet.router, scene.instance_id, load=STREAMS)
    picked = calls_of(scene, "evalsha")
    await scene.until_more_answers(100)
    await until(lambda: calls_of(scene, "evalsha") > picked + 100)
    assert set(scene.answers) <= {"200", "503 with Retry-After"}


def calls_of(scene: Scene, command: str) -> int:
    return int(scene.fleet.store.info("commandstats")[f"cmdstat_{command}"]["calls"])


async def ends_whole(scene: Scene, streams: list[BareClient]) -> None:
    """The streams that ran through it all."""
    scene.engine.go_on.set()
    async with asyncio.timeout(10):
        rests = await asyncio.gather(*(client.read_rest() for client in streams))
    assert all(rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") and b"error" not in rest for rest in rests)


async def counts_right(scene: Scene) -> None:
    agent.beat(scene.fleet.router, scene.instance_id, load=0)
    assert scene.fleet.load(scene.instance_id) == 0
    async with httpx.AsyncClient(base_url=scene.fleet.router.url, headers=scene.fleet.headers, timeout=20) as client:
        asking = [client.post("/v1/chat/completions", json=scene.fleet.chat) for _ in range(AT_ONCE)]
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    with contextlib.suppress(TimeoutError):  # what is left tells more
        await until(lambda: scene.running == scene.fleet.load(scene.instance_id) == 0, within=5)
    assert (scene.fleet.load(scene.instance_id), scene.running) == (0, 0)
    assert "Traceback" not in scene.fleet.router.log.read_text()
