"""Two hundred clients that leave at the same instant, in every phase of their requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psutil
import pytest

from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.bare_client import BareClient, chat_request, crowd
from tests.routing.router.conftest import StartRouter
from tests.routing.router.engine import Engine
from tests.routing.router.fleet import Fleet, until

CROWD = 200
FINE = engines.answer(engines.chat_completion("fine"))
STREAM = engines.stream(engines.chat_chunk("first"), then="wait")
MEBIBYTE = 1024 * 1024


@pytest.fixture
def fleet(redis_server: RedisServer, start_router: StartRouter) -> Iterator[Fleet]:
    """Its router is patient: nothing but a client's leaving ends a request."""
    with redis_server.client() as store:
        store.flushall()
        yield Fleet(router=start_router(redis_server.url), store=store)


async def test_leaving_before_the_body_is_complete_leaves_nothing(fleet: Fleet) -> None:
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)
        before = open_files(fleet)
        async with crowd(fleet.router.port, CROWD) as clients:
            request = chat_request(fleet)
            await asyncio.gather(*(client.send(request[:-10]) for client in clients))
            await until(lambda: open_files(fleet) >= before + CROWD)

            leave_at_once(clients)

            await until(lambda: open_files(fleet) <= before, within=1)
        assert (engine.connections_made, fleet.load(instance_id)) == (0, 0)
        await serves_on(fleet, engine)


async def test_leaving_while_waiting_for_the_first_token_leaves_nothing(fleet: Fleet) -> None:
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)
        before = open_files(fleet)
        async with crowd(fleet.router.port, CROWD) as clients:
            await asyncio.gather(*(client.send(chat_request(fleet)) for client in clients))
            await until(lambda: len(engine.requests) == CROWD)
            assert fleet.load(instance_id) == CROWD

            leave_at_once(clients)

            await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0, within=1)
        assert engine.left == CROWD
        await until(lambda: open_files(fleet) <= before)
        await serves_on(fleet, engine)


async def test_leaving_in_the_middle_of_a_stream_leaves_nothing(fleet: Fleet) -> None:
    async with engines.running(STREAM) as engine:
        instance_id = fleet.add(engine.port)
        before = open_files(fleet)
        async with crowd(fleet.router.port, CROWD) as clients:
            await begin_streams(fleet, clients)
            assert fleet.load(instance_id) == CROWD

            leave_at_once(clients)

            await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0, within=1)
        assert engine.left == CROWD
        await until(lambda: open_files(fleet) <= before)
        await serves_on(fleet, engine)


async def test_leaving_in_the_moment_of_asking_leaves_nothing(fleet: Fleet) -> None:
    """The request and the farewell come together, so that it is met wherever it stands: at the key's check, while an
    instance is being taken, on the way to it."""
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)
        before = open_files(fleet)
        async with crowd(fleet.router.port, CROWD) as clients:
            await until(lambda: open_files(fleet) >= before + CROWD)
            for client in clients:
                client.writer.write(chat_request(fleet))

            leave_at_once(clients)

            await until(lambda: open_files(fleet) <= before)
            await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0, within=1)
        await serves_on(fleet, engine)


async def test_leaving_gives_a_keys_places_back(fleet: Fleet) -> None:
    fleet.limit(concurrency=CROWD)
    async with engines.running(STREAM) as engine:
        instance_id = fleet.add(engine.port)
        for _ in range(3):
            async with crowd(fleet.router.port, CROWD) as clients:
                await begin_streams(fleet, clients)  # or one of them would be refused

                leave_at_once(clients)

                await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0)


async def test_storms_cost_no_memory_that_stays(fleet: Fleet) -> None:
    async with engines.running(STREAM) as engine:
        instance_id = fleet.add(engine.port)

        async def storm() -> int:
            async with crowd(fleet.router.port, CROWD) as clients:
                await begin_streams(fleet, clients)
                leave_at_once(clients)
                await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0)
            return int(psutil.Process(fleet.router.process.pid).memory_info().rss)

        first = [await storm() for _ in range(3)][-1]  # allocators keep what they needed once
        last = [await storm() for _ in range(5)][-1]

        assert last - first < 2 * MEBIBYTE


async def begin_streams(fleet: Fleet, clients: list[BareClient]) -> None:
    await asyncio.gather(*(client.send(chat_request(fleet, stream=True)) for client in clients))
    await asyncio.gather(*(client.read_until(b"first") for client in clients))


def leave_at_once(clients: list[BareClient]) -> None:
    """One half says good-bye, the other just breaks off."""
    for client in clients[::2]:
        client.hang_up()
    for client in clients[1::2]:
        client.reset()


def open_files(fleet: Fleet) -> int:
    return int(psutil.Process(fleet.router.process.pid).num_fds())


async def serves_on(fleet: Fleet, engine: Engine) -> None:
    engine.behaviour = FINE
    async with fleet.client() as client:
        answer = await client.chat.completions.create(model=fleet.model, messages=[])

    assert answer.choices[0].message.content == "fine"
    assert "Traceback" not in fleet.router.log.read_text()
