from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from routing.discovery.directory import SCRIPTS, Directory
from routing.discovery.link import Link
from routing.discovery.publisher import Publisher
from tests.routing.discovery import redis_server as redis_servers
from tests.routing.discovery.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with redis_servers.running() as server:
        yield server


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """An empty Redis."""
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def publisher(store: redis.Redis) -> Publisher:
    return Publisher(store)


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[Link]:
    link = Link(redis_server.url, scripts=SCRIPTS)
    await link.start(wait=5)
    yield link
    await link.close()


@pytest.fixture
def directory(link: Link) -> Directory:
    return Directory(link, router_id="the router", stale_after=15, snapshot_age=60)
