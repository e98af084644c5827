from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router.fleet import Fleet
from tests.routing.router.hostile import witness
from tests.routing.router.hostile.witness import Witness
from tests.routing.router.process import RouterProcess

IMPATIENT = {"ROUTER_HEADER_TIMEOUT": "1", "ROUTER_BODY_TIMEOUT": "1", "ROUTER_WRITE_TIMEOUT": "1"}


@pytest.fixture(scope="module")
def router(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterProcess]:
    log = tmp_path_factory.mktemp("hostile") / "router.log"
    router = RouterProcess(log, redis_url=redis_server.url, **IMPATIENT)
    yield router
    router.stop()


@pytest.fixture
def fleet(redis_server: RedisServer, router: RouterProcess) -> Iterator[Fleet]:
    with redis_server.client() as store:
        store.flushall()
        yield Fleet(router=router, store=store)


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Witness]:
    async with witness.listening() as engine:
        fleet.add(engine.port)
        yield engine
