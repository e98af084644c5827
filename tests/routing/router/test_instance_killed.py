"""An instance that dies under its requests: who is answered by another, who is told, and when it is asked again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from routing.discovery import keys
from tests.routing.discovery import truth
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.bare_client import BareClient, chat_request, crowd
from tests.routing.router.conftest import StartRouter
from tests.routing.router.engine import Behaviour, Engine
from tests.routing.router.fleet import Fleet, until

BEGUN, WAITING = 100, 100
FINE = engines.answer(engines.chat_completion("fine"))
STREAM = engines.stream(engines.chat_chunk("first"), then="wait")
ANSWERED = engines.stream(engines.chat_chunk("another"), "[DONE]")


@pytest.fixture
def fleet(redis_server: RedisServer, start_router: StartRouter) -> Iterator[Fleet]:
    """Its router is patient: nothing but an instance's death ends a request."""
    with redis_server.client() as store:
        store.flushall()
        yield Fleet(router=start_router(redis_server.url), store=store)


async def test_what_had_not_begun_is_answered_by_another_and_what_had_is_told(fleet: Fleet) -> None:
    async with (
        engines.running(in_turn(BEGUN, STREAM, then=engines.hang)) as dying,
        engines.running(ANSWERED) as second,
        engines.running(ANSWERED) as third,
        crowd(fleet.router.port, BEGUN + WAITING) as clients,
    ):
        dead = fleet.add(dying.port)
        begun, waiting = clients[:BEGUN], clients[BEGUN:]
        await ask(fleet, begun)
        await asyncio.gather(*(client.read_until(b"first") for client in begun))
        await ask(fleet, waiting)
        await until(lambda: len(dying.requests) == BEGUN + WAITING)
        others = [fleet.add(second.port), fleet.add(third.port)]

        dying.die()

        async with asyncio.timeout(20):
            cut = await asyncio.gather(*(client.read_rest() for client in begun))
            answered = await asyncio.gather(*(client.read_rest() for client in waiting))
        assert all(events(each)[-1]["error"]["code"] == "upstream_error" for each in cut)
        assert not any(b"[DONE]" in each for each in cut)
        assert all(each.startswith(b"HTTP/1.1 200") and b"another" in each and b"[DONE]" in each for each in answered)
        assert len(second.requests) + len(third.requests) == WAITING
        await until(lambda: [fleet.load(each) for each in (dead, *others)] == [0, 0, 0])
        assert "Traceback" not in fleet.router.log.read_text()


async def test_it_is_taken_out_of_routing_for_every_router(
    fleet: Fleet, redis_server: RedisServer, start_router: StartRouter
) -> None:
    async with engines.running(FINE) as engine, engines.running(FINE) as dying:
        dead = fleet.add(dying.port)
        dying.die()
        fleet.add(engine.port, load=5)
        assert (await chat(fleet)).status_code == 200

        await until(lambda: ejections(fleet, dead) == 1)
        assert 0 < ejected_for(fleet, dead) <= 2

        # Out until it is tried again: a second attempt at it would double the time.
        fleet.router = start_router(redis_server.url)
        assert [(await chat(fleet)).status_code for _ in range(20)] == [200] * 20
        assert ejections(fleet, dead) == 1


async def test_it_is_tried_with_one_request_when_its_time_is_over(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine, died_and_back(fleet, behaviour=engines.hang) as back:
        fleet.add(engine.port, load=100)
        let_try(fleet, back)

        asking = [asyncio.create_task(chat(fleet)) for _ in range(20)]

        await until(lambda: sum(task.done() for task in asking) == 19)
        assert (len(back.engine.requests), len(engine.requests)) == (1, 19)
        back.engine.behaviour = FINE
        back.engine.go_on.set()
        await asyncio.gather(*asking)


async def test_a_try_that_succeeds_lets_it_in_again(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine, died_and_back(fleet, behaviour=FINE) as back:
        fleet.add(engine.port, load=100)
        let_try(fleet, back)

        assert (await chat(fleet)).status_code == 200

        await until(lambda: ejections(fleet, back.instance_id) == 0)
        assert [(await chat(fleet)).status_code for _ in range(10)] == [200] * 10
        assert len(back.engine.requests) == 11


async def test_a_try_that_fails_keeps_it_out_twice_as_long(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine, died_and_back(fleet, behaviour=engines.close_unanswered) as back:
        fleet.add(engine.port, load=100)
        let_try(fleet, back)

        assert (await chat(fleet)).status_code == 200

        await until(lambda: ejections(fleet, back.instance_id) == 2)
        assert 2 < ejected_for(fleet, back.instance_id) <= 4


async def test_a_try_whose_client_leaves_does_not_keep_it_out_for_ever(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine, died_and_back(fleet, behaviour=engines.hang) as back:
        fleet.add(engine.port, load=100)
        let_try(fleet, back)
        async with crowd(fleet.router.port, 1) as (client,):
            await ask(fleet, [client])
            await until(lambda: len(back.engine.requests) == 1)
        await until(lambda: fleet.load(back.instance_id) == 0)
        back.engine.behaviour = FINE

        assert 0 < ejected_for(fleet, back.instance_id) <= 10
        let_try(fleet, back)

        assert (await chat(fleet)).status_code == 200
        assert len(back.engine.requests) == 2


# --- a request that kills whoever gets it ---


@pytest.mark.parametrize("kept", [False, True], ids=["on a new connection", "on a kept connection"])
async def test_a_request_that_kills_its_worker_kills_two_at_most(fleet: Fleet, kept: bool) -> None:
    async with several(4, FINE) as fatal:
        for engine in fatal:
            fleet.add(engine.port)
        if kept:
            await until_all_have_answered(fleet, fatal)
        for engine in fatal:
            engine.requests.clear()
            engine.behaviour = drop_dead

        answer = await chat(fleet)

        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
        assert sum(bool(engine.requests) for engine in fatal) == 2


async def test_a_worker_that_closes_kept_connections_gets_a_request_once_more_on_a_new_one(fleet: Fleet) -> None:
    """It only tidied up at the wrong moment: not a death, and no other instance is needed."""
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)
        assert (await chat(fleet)).status_code == 200
        engine.requests.clear()
        engine.behaviour = engines.first(engines.close_unanswered, then=FINE)

        assert (await chat(fleet)).status_code == 200

        assert (len(engine.requests), engine.connections_made) == (2, 2)
        assert ejections(fleet, instance_id) == 0


# --- what happens to an instance ---


class Returned:
    def __init__(self, instance_id: str, engine: Engine) -> None:
        self.instance_id = instance_id
        self.engine = engine


@asynccontextmanager
async def died_and_back(fleet: Fleet, *, behaviour: Behaviour) -> AsyncIterator[Returned]:
    """An instance that was taken out of routing because nobody listened there, and whose engine is there again."""
    async with engines.running(FINE) as dying:
        instance_id = fleet.add(dying.port)
        dying.die()
        assert (await chat(fleet)).status_code == 502
        await until(lambda: ejections(fleet, instance_id) == 1)
    async with engines.running(behaviour, port=dying.port) as engine:
        yield Returned(instance_id, engine)


def let_try(fleet: Fleet, returned: Returned) -> None:
    """As if the time were over for which it was taken out."""
    fleet.store.hset(keys.instance(returned.instance_id), "ejected_until", 1)


def ejections(fleet: Fleet, instance_id: str) -> int:
    return int(fleet.store.hget(keys.instance(instance_id), "ejections") or 0)


def ejected_for(fleet: Fleet, instance_id: str) -> float:
    """Seconds from now."""
    until_micros = float(fleet.store.hget(keys.instance(instance_id), "ejected_until") or 0)
    return until_micros / 1e6 - truth.redis_time(fleet.store)


def in_turn(count: int, behaviour: Behaviour, *, then: Behaviour) -> Behaviour:
    """`behaviour` for the first `count` requests, `then` for all others."""

    async def behave(engine: Engine, request: engines.Request, writer: asyncio.StreamWriter) -> bool:
        chosen = behaviour if engine.requests.index(request) < count else then
        return await chosen(engine, request, writer)

    return behave


async def drop_dead(engine: Engine, request: engines.Request, writer: asyncio.StreamWriter) -> bool:
    engine.die()
    return False


@asynccontextmanager
async def several(count: int, behaviour: Behaviour) -> AsyncIterator[list[Engine]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(engines.running(behaviour)) for _ in range(count)]


async def until_all_have_answered(fleet: Fleet, all_of_them: list[Engine]) -> None:
    async with asyncio.timeout(10):
        while not all(engine.requests for engine in all_of_them):
            assert (await chat(fleet)).status_code == 200


# --- clients ---


async def ask(fleet: Fleet, clients: list[BareClient]) -> None:
    request = chat_request(fleet, stream=True, headers="connection: close\r\n")
    await asyncio.gather(*(client.send(request) for client in clients))


async def chat(fleet: Fleet) -> httpx.Response:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json=fleet.chat)


def events(rest: bytes) -> list[dict[str, dict[str, str]]]:
    """The JSON of the events in what is left of a chunked answer."""
    lines = [line for line in rest.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]
