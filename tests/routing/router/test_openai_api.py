"""The router through the eyes of OpenAI's own client."""

from __future__ import annotations

import asyncio

import httpx
import openai
import pytest

from tests.routing.discovery import truth
from tests.routing.router import engine as engines
from tests.routing.router.fleet import Fleet, until


async def test_it_answers_a_chat(fleet: Fleet) -> None:
    async with engines.running(engines.answer(engines.chat_completion("Hello"))) as engine, fleet.client() as client:
        instance_id = fleet.add(engine.port)

        answer = await client.chat.completions.create(model=fleet.model, messages=[{"role": "user", "content": "Hi"}])

        assert answer.choices[0].message.content == "Hello"
        assert answer.usage is not None
        assert answer.usage.total_tokens == 3
        assert engine.requests[0].path == "/v1/chat/completions"
        await until(lambda: fleet.load(instance_id) == 0)


async def test_it_streams_a_chat(fleet: Fleet) -> None:
    behaviour = engines.stream(engines.chat_chunk("Hel"), engines.chat_chunk("lo"), "[DONE]")
    async with engines.running(behaviour) as engine, fleet.client() as client:
        instance_id = fleet.add(engine.port)

        stream = await client.chat.completions.create(
            model=fleet.model, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        text = [chunk.choices[0].delta.content async for chunk in stream]

        assert text == ["Hel", "lo"]
        await until(lambda: fleet.load(instance_id) == 0)


async def test_a_chunk_arrives_before_the_next_is_made(fleet: Fleet) -> None:
    behaviour = engines.stream(engines.chat_chunk("first"), then="wait")
    async with engines.running(behaviour) as engine, fleet.client() as client:
        instance_id = fleet.add(engine.port)

        stream = await client.chat.completions.create(
            model=fleet.model, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        chunk = await anext(aiter(stream))

        assert chunk.choices[0].delta.content == "first"
        assert fleet.load(instance_id) == 1
        engine.go_on.set()
        assert [each async for each in stream] == []


async def test_it_answers_completions_and_embeddings(fleet: Fleet) -> None:
    completion = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": " world", "finish_reason": "stop", "logprobs": None}],
    }
    embeddings = {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }
    behaviour = engines.first(engines.answer(completion), then=engines.answer(embeddings))
    async with engines.running(behaviour) as engine, fleet.client() as client:
        fleet.add(engine.port)

        assert (await client.completions.create(model=fleet.model, prompt="Hello")).choices[0].text == " world"
        answer = await client.embeddings.create(model=fleet.model, input="Hi", encoding_format="float")

        assert answer.data[0].embedding == [0.5, 0.25]
        assert [request.path for request in engine.requests] == ["/v1/completions", "/v1/embeddings"]


async def test_it_lists_the_models_that_are_served(fleet: Fleet) -> None:
    fleet.models.append(truth.served_model("un/served"))
    fleet.rebuild()
    fleet.add(port=1)
    async with fleet.client() as client:
        listed = [model async for model in client.models.list()]
        one = await client.models.retrieve(fleet.model)

        assert [model.id for model in listed] == [fleet.model]
        assert (one.id, one.object, one.created, one.owned_by) == (fleet.model, "model", 1_700_000_000, "inventiv")
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("no/such-model")
        assert caught.value.code == "model_not_found"


async def test_a_wrong_key_is_refused(fleet: Fleet) -> None:
    async with fleet.client(key="inv_wrong") as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.models.list()
        assert (caught.value.type, caught.value.code) == ("invalid_request_error", "invalid_api_key")
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model=fleet.model, messages=[])


async def test_an_expired_key_is_refused(fleet: Fleet) -> None:
    fleet.publisher.publish_key(truth.client_key("inv_expired", expires_at=1_000_000_000))
    async with fleet.client(key="inv_expired") as client:
        with pytest.raises(openai.AuthenticationError, match="expired"):
            await client.models.list()


async def test_a_revoked_key_is_refused_within_two_seconds(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers) as client:
        assert (await client.get("/v1/models")).status_code == 200

        fleet.publisher.revoke_key(truth.sha256(fleet.key))

        async with asyncio.timeout(2):
            while (await client.get("/v1/models")).status_code != 401:  # noqa: ASYNC110 - nor is there an event
                await asyncio.sleep(0.05)


async def test_an_unknown_model_is_not_found(fleet: Fleet) -> None:
    async with fleet.client() as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await client.chat.completions.create(model="no/such-model", messages=[])
    assert (caught.value.type, caught.value.code, caught.value.param) == (
        "invalid_request_error",
        "model_not_found",
        "model",
    )


async def test_a_model_that_nobody_serves_is_unavailable(fleet: Fleet) -> None:
    async with fleet.client() as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model=fleet.model, messages=[])
    assert caught.value.status_code == 503
    assert (caught.value.type, caught.value.code) == ("service_unavailable_error", "no_ready_instance")
    assert int(caught.value.response.headers["retry-after"]) > 0


async def test_an_error_of_the_engine_comes_through_untouched(fleet: Fleet) -> None:
    error = {"error": {"message": "too many tokens", "type": "BadRequestError", "param": "max_tokens", "code": 400}}
    async with (
        engines.running(engines.answer(error, status=400, headers="x-engine: yes\r\n")) as engine,
        httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers) as client,
    ):
        fleet.add(engine.port)

        answer = await client.post("/v1/chat/completions", json=fleet.chat)

        assert (answer.status_code, answer.json(), answer.headers["x-engine"]) == (400, error, "yes")


async def test_the_body_goes_through_byte_by_byte(fleet: Fleet) -> None:
    body = b'{ "unknown":  [1.0e2, "\\u00e9", "\xc3\xa9"],\n "messages": [{"model": "x"}], "model": "%b" }'
    async with (
        engines.running(engines.answer(engines.chat_completion())) as engine,
        httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers) as client,
    ):
        fleet.add(engine.port)

        sent = body % fleet.model.encode()
        assert (await client.post("/v1/chat/completions", content=sent)).status_code == 200

        assert engine.requests[0].body == sent


async def test_the_worker_gets_its_own_key_and_none_of_the_clients_secrets(fleet: Fleet) -> None:
    headers = fleet.headers | {
        "x-api-key": "secret",
        "x_api_key": "secret",
        "cookie": "secret",
        "connection": "keep-alive, x-hop",
        "x-hop": "secret",
        "te": "trailers",
        "x-request-id": "my-request",
        "x-custom": "kept",
    }
    async with (
        engines.running(engines.answer(engines.chat_completion(), headers="keep-alive: timeout=5\r\n")) as engine,
        httpx.AsyncClient(base_url=fleet.router.url) as client,
    ):
        fleet.add(engine.port)

        answer = await client.post("/v1/chat/completions", json=fleet.chat, headers=headers)

        seen = engine.requests[0]
        assert seen.header("authorization") == f"Bearer {engines.API_KEY}"
        assert seen.header("host") == f"127.0.0.1:{engine.port}"
        assert (seen.header("x-request-id"), seen.header("x-custom")) == ("my-request", "kept")
        assert "secret" not in str(seen.headers)
        assert fleet.key not in str(seen.headers)
        assert answer.headers["x-request-id"] == "my-request"
        assert "keep-alive" not in answer.headers


async def test_every_answer_has_a_request_id_and_a_harmful_one_is_replaced(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.router.url) as client:
        refused = await client.get("/v1/models", headers={"x-request-id": "a b" * 100})

        assert refused.status_code == 401
        assert len(refused.headers["x-request-id"]) == 32


async def test_the_least_loaded_instance_answers(fleet: Fleet) -> None:
    async with (
        engines.running(engines.answer(engines.chat_completion("busy"))) as busy,
        engines.running(engines.answer(engines.chat_completion("idle"))) as idle,
        fleet.client() as client,
    ):
        fleet.add(busy.port, load=9)
        fleet.add(idle.port)

        await client.chat.completions.create(model=fleet.model, messages=[])

        assert (len(busy.requests), len(idle.requests)) == (0, 1)


async def test_a_connection_is_used_again(fleet: Fleet) -> None:
    async with engines.running(engines.answer(engines.chat_completion())) as engine, fleet.client() as client:
        fleet.add(engine.port)

        for _ in range(5):
            await client.chat.completions.create(model=fleet.model, messages=[])

        assert (len(engine.requests), engine.connections_made) == (5, 1)
