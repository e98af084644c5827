"""What happens when every instance has as many requests as it may have."""

from __future__ import annotations

import asyncio

import httpx

from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.conftest import StartRouter
from tests.routing.router.fleet import Fleet, until

FINE = engines.answer(engines.chat_completion("fine"))


async def chat(fleet: Fleet, text: str = "Hi") -> httpx.Response:
    body = {"model": fleet.model, "messages": [{"role": "user", "content": text}]}
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json=body)


async def test_it_waits_for_a_place_and_gets_it(fleet: Fleet) -> None:
    async with engines.running(engines.first(engines.hang, then=FINE)) as engine:
        fleet.add(engine.port, capacity=1)
        running = asyncio.create_task(chat(fleet))
        await until(lambda: len(engine.requests) == 1)
        waiting = [asyncio.create_task(chat(fleet)) for _ in range(5)]
        await asyncio.wait(waiting, timeout=0.2)
        assert len(engine.requests) == 1

        engine.go_on.set()

        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 5
        await running


async def test_it_sees_a_place_that_another_router_gave_back(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port, capacity=3, load=3)
        waiting = asyncio.create_task(chat(fleet))
        await asyncio.wait([waiting], timeout=0.2)
        assert engine.requests == []

        fleet.store.hset(f"instance:{instance_id}", "current_load", 2)

        assert (await waiting).status_code == 200


async def test_who_leaves_the_queue_is_never_sent(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port, capacity=1, load=1)
        leaving = asyncio.create_task(chat(fleet, "leaving"))
        staying = asyncio.create_task(chat(fleet, "staying"))
        await asyncio.wait([staying], timeout=0.2)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

        fleet.store.hset(f"instance:{instance_id}", "current_load", 0)

        assert (await staying).status_code == 200
        assert [b"staying" in request.body for request in engine.requests] == [True]


async def test_the_queue_is_bounded_and_has_a_deadline(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url, ROUTER_QUEUE_LENGTH="1", ROUTER_QUEUE_TIMEOUT="0.5")
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with engines.running(FINE) as engine:
            fleet.add(engine.port, capacity=1, load=1)

            answers = await asyncio.gather(chat(fleet), chat(fleet))

            found = sorted((each.status_code, each.json()["error"]["code"]) for each in answers)
            assert found == [(429, "rate_limit_exceeded"), (503, "no_ready_instance")]
            assert all("retry-after" in each.headers for each in answers)
            assert engine.requests == []
