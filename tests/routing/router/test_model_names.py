"""Aliases, fallbacks, and conversations that find their instance again."""

from __future__ import annotations

import json
from collections import Counter

import httpx

from routing.discovery.records import Routing
from tests.routing.discovery import truth
from tests.routing.router import engine as engines
from tests.routing.router.fleet import Fleet
from tests.routing.router.test_key_limits import until_seen

FINE = engines.answer(engines.chat_completion("fine"))


async def chat(
    fleet: Fleet, *, model: str = "", headers: dict[str, str] | None = None, **more: object
) -> httpx.Response:
    body = {**fleet.chat, "model": model or fleet.model, **more}
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json=body, headers=headers)


async def test_an_alias_stands_for_the_whole_id(fleet: Fleet) -> None:
    fleet.describe(aliases=("short",))
    await until_seen(fleet)
    async with engines.running(FINE) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet, model="short", seed=12345678901234567890, custom={"kept": [1.0, "é"]})

        assert answer.status_code == 200
        sent = json.loads(engine.requests[0].body)
        assert sent["model"] == fleet.model
        assert (sent["seed"], sent["custom"]) == (12345678901234567890, {"kept": [1.0, "é"]})


async def test_an_alias_can_be_looked_up(fleet: Fleet) -> None:
    fleet.describe(aliases=("team/short",))
    await until_seen(fleet)
    async with engines.running(FINE) as engine:
        fleet.add(engine.port)

        async with fleet.client() as client:
            assert (await client.models.retrieve("team/short")).id == fleet.model


async def test_another_model_answers_when_none_of_this_one_can(fleet: Fleet) -> None:
    other = f"{fleet.model}-other"
    fleet.models.append(truth.served_model(other))
    fleet.describe(fallbacks=("no/such-model", other))
    await until_seen_all(fleet)
    async with engines.running(FINE) as engine:
        fleet.add(engine.port, model=other)

        assert (await chat(fleet)).status_code == 200
        assert json.loads(engine.requests[0].body)["model"] == other


async def until_seen_all(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)
        await until_seen(fleet)
        fleet.move(instance_id, "DRAINING")


async def test_a_fallback_answers_for_instances_that_fail(fleet: Fleet) -> None:
    other = f"{fleet.model}-other"
    fleet.models.append(truth.served_model(other))
    fleet.describe(fallbacks=(other,))
    await until_seen_all(fleet)
    async with engines.running(engines.answer({}, status=503)) as busy, engines.running(FINE) as engine:
        fleet.add(busy.port)
        fleet.add(engine.port, model=other)

        assert (await chat(fleet)).status_code == 200
        assert (len(busy.requests), len(engine.requests)) == (1, 1)


async def until_seen_twice(fleet: Fleet) -> None:
    """Of a round in which the model was seen, the instances may not have been yet."""
    await until_seen(fleet)
    await until_seen(fleet)


async def test_a_conversation_finds_its_instance_again(fleet: Fleet) -> None:
    fleet.describe(routing=Routing.PREFIX)
    async with engines.running(FINE) as one, engines.running(FINE) as two, engines.running(FINE) as three:
        for engine in (one, two, three):
            fleet.add(engine.port)
        await until_seen_twice(fleet)
        for turn in range(4):
            for conversation in range(8):
                said = [{"role": "user", "content": f"conversation {conversation}"}]
                said += [{"role": "assistant", "content": "more"}, {"role": "user", "content": "go on"}] * turn
                assert (await chat(fleet, messages=said)).status_code == 200

        seen = Counter(
            (number, json.loads(request.body)["messages"][0]["content"])
            for number, engine in enumerate((one, two, three))
            for request in engine.requests
        )
        assert set(seen.values()) == {4}
        assert len({number for number, _ in seen}) > 1


async def test_a_session_finds_its_instance_again_whatever_the_models_policy(fleet: Fleet) -> None:
    async with engines.running(FINE) as one, engines.running(FINE) as two:
        for engine in (one, two):
            fleet.add(engine.port)
        await until_seen_twice(fleet)
        for _ in range(5):
            for session in range(6):
                await chat(fleet, headers={"x-session-id": f"session {session}"})

        sizes = [Counter(request.header("x-session-id") for request in engine.requests) for engine in (one, two)]
        assert all(set(size.values()) <= {5} for size in sizes)
        assert sum(map(len, sizes)) == 6
