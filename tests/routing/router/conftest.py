from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.routing.discovery import redis_server as redis_servers
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router.fleet import Fleet
from tests.routing.router.process import RouterProcess


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with redis_servers.running() as server:
        yield server


@pytest.fixture(scope="session")
def shared_router(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    log = tmp_path_factory.mktemp("router") / "router.log"
    router = RouterProcess(
        log,
        redis_url=redis_server.url,
        ROUTER_FIRST_BYTE_TIMEOUT="1.5",
        ROUTER_IDLE_TIMEOUT="1.5",
        ROUTER_CONNECT_TIMEOUT="1",
    )
    yield router
    router.stop()
    assert "Traceback" not in log.read_text()


@pytest.fixture
def fleet(redis_server: RedisServer, shared_router: RouterProcess) -> Iterator[Fleet]:
    """A router with an index of a model and a key, and no instance yet."""
    with redis_server.client() as store:
        store.flushall()
        yield Fleet(router=shared_router, store=store)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    with redis_servers.running() as server:
        yield server


StartRouter = Callable[..., RouterProcess]


@pytest.fixture
def start_router(tmp_path: Path) -> Iterator[StartRouter]:
    """Starts a router with settings of its own."""
    started: list[RouterProcess] = []

    def start(redis_url: str, **settings: str) -> RouterProcess:
        router = RouterProcess(tmp_path / f"router-{len(started)}.log", redis_url=redis_url, **settings)
        started.append(router)
        return router

    yield start
    for router in started:
        router.stop()
