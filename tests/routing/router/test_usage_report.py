"""What the router reports of every request, for the control plane to count."""

from __future__ import annotations

import asyncio
import json

import httpx

from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.conftest import StartRouter
from tests.routing.router.fleet import Fleet, until
from tests.routing.router.test_key_limits import until_seen

FINE = engines.answer(engines.chat_completion("fine"))
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, "prompt_tokens_details": {"cached_tokens": 5}}
USAGE_CHUNK = json.dumps({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": USAGE})


async def chat(fleet: Fleet, **more: object) -> httpx.Response:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json={**fleet.chat, **more})


async def test_a_request_is_reported_with_what_it_took(fleet: Fleet) -> None:
    fleet.describe(input_price=2_000_000, output_price=10_000_000)
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)
        await until_seen(fleet)

        await chat(fleet)
        await until(lambda: len(fleet.usage()) == 1)

        (usage,) = fleet.usage()
        assert (usage.key_id, usage.model_id, usage.instance_id) == (fleet.keys[0].key_id, fleet.model, instance_id)
        assert (usage.operation, usage.status, usage.streamed, usage.estimated) == ("chat", 200, False, False)
        assert (usage.input_tokens, usage.output_tokens, usage.cost_micros) == (1, 2, 22)
        assert 0 <= usage.first_token_ms <= usage.duration_ms


async def test_the_engine_is_asked_for_a_streams_usage_and_the_client_does_not_see_it(fleet: Fleet) -> None:
    chunk = engines.chat_chunk("Hello")
    async with engines.running(engines.stream(chunk, USAGE_CHUNK, "[DONE]")) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet, stream=True)
        await until(lambda: len(fleet.usage()) == 1)

        assert json.loads(engine.requests[0].body)["stream_options"] == {"include_usage": True}
        assert answer.text == f"data: {chunk}\n\ndata: [DONE]\n\n"
        (usage,) = fleet.usage()
        assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens) == (11, 7, 5)
        assert (usage.streamed, usage.estimated) == (True, False)


async def test_a_client_that_asks_for_usage_gets_it(fleet: Fleet) -> None:
    async with engines.running(engines.stream(engines.chat_chunk("Hello"), USAGE_CHUNK, "[DONE]")) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet, stream=True, stream_options={"include_usage": True})

        assert USAGE_CHUNK in answer.text


async def test_a_client_that_leaves_has_its_tokens_estimated(fleet: Fleet) -> None:
    async with engines.running(engines.stream(*[engines.chat_chunk("word")] * 3, then="wait")) as engine:
        instance_id = fleet.add(engine.port)

        async with (
            httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers) as client,
            client.stream("POST", "/v1/chat/completions", json={**fleet.chat, "stream": True}) as answer,
        ):
            events = answer.aiter_text()
            seen = ""
            while seen.count("word") < 3:
                seen += await anext(events)
        await until(lambda: fleet.load(instance_id) == 0)
        await until(lambda: len(fleet.usage()) == 1)

        (usage,) = fleet.usage()
        assert (usage.status, usage.output_tokens, usage.estimated) == (499, 3, True)


async def test_what_no_instance_saw_is_not_reported(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        assert (await chat(fleet)).status_code == 503
        fleet.add(engine.port)
        await chat(fleet)
        await until(lambda: len(fleet.usage()) > 0)

        assert [usage.status for usage in fleet.usage()] == [200]


async def test_usage_waits_for_a_redis_that_is_away(own_redis: RedisServer, start_router: StartRouter) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with engines.running(FINE) as engine:
            fleet.add(engine.port)
            assert (await chat(fleet)).status_code == 200
            await until(lambda: httpx.get(f"{router.url}/readyz").status_code == 200)
            await until(lambda: len(fleet.usage()) == 1)

            own_redis.freeze()
            answers = await asyncio.gather(*(chat(fleet) for _ in range(5)))
            own_redis.thaw()

            assert [answer.status_code for answer in answers] == [200] * 5
            await until(lambda: len({usage.usage_id for usage in fleet.usage()}) == 6)


async def test_a_router_that_is_stopped_reports_before_it_goes(
    own_redis: RedisServer, start_router: StartRouter
) -> None:
    router = start_router(own_redis.url)
    with own_redis.client() as store:
        fleet = Fleet(router=router, store=store)
        async with engines.running(FINE) as engine:
            fleet.add(engine.port)
            await asyncio.gather(*(chat(fleet) for _ in range(20)))

            router.stop()

            assert len(fleet.usage()) == 20
