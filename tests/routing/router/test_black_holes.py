"""An instance that fails faster than others answer is always the least busy: it must not swallow their requests."""

from __future__ import annotations

import httpx
import pytest

from routing.discovery import keys
from tests.routing.discovery import truth
from tests.routing.router import engine as engines
from tests.routing.router.fleet import Fleet, until
from tests.routing.router.test_key_limits import until_seen

FINE = engines.answer(engines.chat_completion("fine"))


async def statuses(fleet: Fleet, count: int) -> list[int]:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return [(await client.post("/v1/chat/completions", json=fleet.chat)).status_code for _ in range(count)]


@pytest.mark.parametrize("status", [401, 502])
async def test_a_worker_that_refuses_everything_costs_no_request_and_is_taken_out(fleet: Fleet, status: int) -> None:
    async with (
        engines.running(engines.answer({"error": "no"}, status=status)) as hole,
        engines.running(FINE) as engine,
    ):
        instance_id = fleet.add(hole.port)
        fleet.add(engine.port, load=5)

        assert await statuses(fleet, 10) == [200] * 10

        await until(lambda: fleet.store.hget(keys.instance(instance_id), "ejections") == "1")
        assert len(hole.requests) == 5


async def test_a_worker_that_always_fails_is_taken_out_after_five_times(fleet: Fleet) -> None:
    async with engines.running(engines.answer({}, status=500)) as hole, engines.running(FINE) as engine:
        fleet.add(hole.port)
        fleet.add(engine.port, load=5)

        assert await statuses(fleet, 10) == [500] * 5 + [200] * 5


async def test_a_fallback_comes_before_an_instance_that_has_been_taken_out(fleet: Fleet) -> None:
    """To try it all the same is for models that have nobody else: a host that is gone costs the time to connect."""
    async with engines.running(FINE) as dying, engines.running(FINE) as engine:
        second = f"{fleet.model}-second"
        fleet.models.append(truth.served_model(second))
        fleet.describe(fallbacks=(second,))
        dead = fleet.add(dying.port)
        fleet.add(engine.port, model=second)
        await until_seen(fleet)
        dying.die()
        assert await statuses(fleet, 1) == [200]
        await until(lambda: fleet.store.hget(keys.instance(dead), "ejections") == "1")

        assert await statuses(fleet, 5) == [200] * 5

        assert fleet.store.hget(keys.instance(dead), "ejections") == "1"
