"""What a key may: its models, its rates, its budget, as a client of the router meets them."""

from __future__ import annotations

import asyncio
import uuid

import httpx
import pytest

from tests.routing.router import engine as engines
from tests.routing.router.fleet import Fleet, until

FINE = engines.answer(engines.chat_completion("fine"))  # with a usage of 1 + 2 tokens


async def chat(fleet: Fleet, **more: object) -> httpx.Response:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json={**fleet.chat, **more})


def error(answer: httpx.Response) -> tuple[int, str, str]:
    said = answer.json()["error"]
    return answer.status_code, said["type"], said["code"]


async def test_a_key_without_limits_is_told_of_none(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet)

        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_requests_a_minute(fleet: Fleet) -> None:
    fleet.limit(requests_per_minute=2)
    async with engines.running(FINE) as engine:
        fleet.add(engine.port)

        answers = [await chat(fleet) for _ in range(3)]

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["1", "0", "0"]
        assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
        assert error(answers[2]) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert 1 <= int(answers[2].headers["retry-after"]) <= 30
        assert len(engine.requests) == 2


async def test_tokens_a_minute_are_settled_by_what_the_engine_counted(fleet: Fleet) -> None:
    fleet.limit(tokens_per_minute=6000)
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)

        first = await chat(fleet, max_tokens=5000)
        await until(lambda: fleet.load(instance_id) == 0)
        second = await chat(fleet, max_tokens=5000)

        assert (first.status_code, second.status_code) == (200, 200)
        assert int(second.headers["x-ratelimit-remaining-tokens"]) < 1000


async def test_more_tokens_than_are_left_are_refused(fleet: Fleet) -> None:
    fleet.limit(tokens_per_minute=6000)
    async with engines.running(engines.hang) as engine:
        fleet.add(engine.port)
        running = asyncio.create_task(chat(fleet, max_tokens=5000))
        await until(lambda: len(engine.requests) == 1)

        refused = await chat(fleet, max_tokens=5000)

        assert error(refused) == (429, "rate_limit_error", "rate_limit_exceeded")
        engine.go_on.set()
        await running


async def test_requests_at_the_same_time(fleet: Fleet) -> None:
    fleet.limit(concurrency=2)
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)
        running = [asyncio.create_task(chat(fleet)) for _ in range(2)]
        await until(lambda: len(engine.requests) == 2)

        assert error(await chat(fleet)) == (429, "rate_limit_error", "rate_limit_exceeded")

        engine.behaviour = FINE
        engine.go_on.set()
        await asyncio.gather(*running)
        await until(lambda: fleet.load(instance_id) == 0)
        assert (await chat(fleet)).status_code == 200


async def test_a_client_who_leaves_does_not_count_as_running(fleet: Fleet) -> None:
    fleet.limit(concurrency=1)
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)
        leaving = asyncio.create_task(chat(fleet))
        await until(lambda: len(engine.requests) == 1)
        leaving.cancel()
        await until(lambda: fleet.load(instance_id) == 0)
        engine.behaviour = FINE

        assert (await chat(fleet)).status_code == 200


@pytest.mark.parametrize("budget", [{"monthly_tokens": 5}, {"monthly_micros": 5}])
async def test_a_budget_of_the_month(fleet: Fleet, budget: dict[str, int]) -> None:
    fleet.limit(**budget)
    fleet.describe(input_price=1_000_000, output_price=1_000_000)  # a millionth of a unit each token
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)
        await until_seen(fleet)

        statuses = []
        for _ in range(3):
            statuses.append((await chat(fleet)).status_code)
            await until(lambda: fleet.load(instance_id) == 0)

        assert statuses == [200, 200, 429]  # the second was let in with 3 of 5 spent
        assert error(await chat(fleet)) == (429, "insufficient_quota", "insufficient_quota")


async def until_seen(fleet: Fleet) -> None:
    """Until the router has looked at the models since now."""
    marker = f"marker-{uuid.uuid4().hex}"
    fleet.describe(aliases=(*fleet.models[0].aliases, marker))

    def is_known() -> bool:
        return httpx.get(f"{fleet.router.url}/v1/models/{marker}", headers=fleet.headers).status_code != 404

    await until(is_known)


async def test_models_that_a_key_may_not_call(fleet: Fleet) -> None:
    fleet.limit(models=("other/model",))
    async with engines.running(FINE) as engine:
        fleet.add(engine.port)

        assert error(await chat(fleet)) == (403, "invalid_request_error", "model_not_allowed")
        async with fleet.client() as client:
            assert (await client.models.list()).data == []
        assert engine.requests == []
