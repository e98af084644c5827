"""The connection to Redis: many commands in one packet, and back again by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from routing.discovery.link import Link, RedisAway
from tests.routing.discovery import redis_server as redis_servers
from tests.routing.discovery.redis_server import RedisServer


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    with redis_servers.running() as server:
        yield server


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)


async def test_it_answers_in_order(link: Link) -> None:
    answers = await asyncio.gather(*(link.command("ECHO", f"é{n}") for n in range(1000)))

    assert answers == [f"é{n}" for n in range(1000)]


async def test_a_cancelled_command_does_not_shift_the_answers(link: Link) -> None:
    first = link.command("ECHO", "first")
    first.cancel()

    assert await link.command("ECHO", "second") == "second"


async def test_without_redis_a_command_fails_at_once_and_works_when_it_is_there(own_server: RedisServer) -> None:
    own_server.stop()
    link = Link(own_server.url)
    await link.start(wait=0.1)
    with pytest.raises(RedisAway):
        link.command("PING")

    own_server.start()
    await until(lambda: link.connected)

    assert await link.command("PING") == "PONG"
    await link.close()


async def test_it_comes_back_after_redis_was_restarted(own_server: RedisServer) -> None:
    link = Link(own_server.url)
    await link.start(wait=5)
    waiting = link.command("BLPOP", "nothing", 0)

    own_server.stop()
    with pytest.raises(RedisAway):
        await waiting
    own_server.start()
    await until(lambda: link.connected)

    assert await link.command("PING") == "PONG"
    await link.close()


async def test_a_frozen_redis_costs_no_more_than_the_time_out(own_server: RedisServer) -> None:
    link = Link(own_server.url, timeout=0.2)
    await link.start(wait=5)
    own_server.freeze()
    began = time.monotonic()

    with pytest.raises(RedisAway):
        await link.command("PING")

    assert time.monotonic() - began < 1
    own_server.thaw()
    await until(lambda: link.connected)
    assert await link.command("PING") == "PONG"
    await link.close()


async def test_a_refused_command_is_an_error_and_the_connection_is_made_anew(link: Link) -> None:
    with pytest.raises(RedisAway, match="unknown command"):
        await link.command("NONSENSE")

    await until(lambda: link.connected)
    assert await link.command("PING") == "PONG"
