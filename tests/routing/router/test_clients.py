"""The router through the official clients, in front of an engine that answers as vLLM does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import anthropic
import httpx
import openai
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent

from tests.routing.router import engine as engines
from tests.routing.router import vllm
from tests.routing.router.engine import Engine
from tests.routing.router.fleet import Fleet, until

MESSAGES: list[Any] = [{"role": "user", "content": "Hi"}]
AUDIO = ("speech.wav", b"RIFF" + bytes(range(256)) * 1000, "audio/wav")
ALIAS = "the-alias"


@pytest_asyncio.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Engine]:
    async with engines.running(vllm.serve) as engine:
        fleet.add(engine.port)
        yield engine


@pytest_asyncio.fixture
async def broken_engine(fleet: Fleet) -> AsyncIterator[Engine]:
    async with engines.running(vllm.break_off) as engine:
        fleet.add(engine.port)
        yield engine


@pytest_asyncio.fixture
async def client(fleet: Fleet) -> AsyncIterator[AsyncOpenAI]:
    async with fleet.client() as client:
        yield client


@pytest_asyncio.fixture
async def claude(fleet: Fleet) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(base_url=fleet.router.url, api_key=fleet.key, max_retries=0, timeout=20) as client:
        yield client


@pytest_asyncio.fixture
async def alias(fleet: Fleet) -> str:
    """Another name of the model, once the router knows it."""
    fleet.models[0] = replace(fleet.models[0], aliases=(ALIAS,))
    fleet.publisher.publish_models(fleet.models)
    question = {"model": ALIAS, "prompt": "Hi"}
    async with (
        httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client,
        asyncio.timeout(10),
    ):
        while (await client.post("/v1/completions", json=question)).status_code == 404:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)
    return ALIAS


def sent(engine: Engine) -> Any:
    """What the engine was asked last."""
    return json.loads(engine.requests[-1].body)


# --- OpenAI's ---


async def test_a_chat(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model=fleet.model, messages=MESSAGES)

    assert answer.choices[0].message.content == vllm.TEXT
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == vllm.CACHED_TOKENS


async def test_a_streamed_chat_shows_no_usage_though_the_engine_was_asked(
    fleet: Fleet, engine: Engine, client: AsyncOpenAI
) -> None:
    stream = await client.chat.completions.create(model=fleet.model, messages=MESSAGES, stream=True)
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == vllm.TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    assert sent(engine)["stream_options"] == {"include_usage": True}


async def test_a_streamed_chat_shows_the_usage_to_who_asks_for_it(
    fleet: Fleet, engine: Engine, client: AsyncOpenAI
) -> None:
    stream = await client.chat.completions.create(
        model=fleet.model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    *_, last = [chunk async for chunk in stream]

    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == vllm.PROMPT_TOKENS + vllm.COMPLETION_TOKENS


async def test_a_stream_of_the_clients_own_making_is_put_together(
    fleet: Fleet, engine: Engine, client: AsyncOpenAI
) -> None:
    async with client.chat.completions.stream(model=fleet.model, messages=MESSAGES) as stream:
        answer = await stream.get_final_completion()

    assert answer.choices[0].message.content == vllm.TEXT


async def test_completions(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    answer = await client.completions.create(model=fleet.model, prompt="Hi")
    stream = await client.completions.create(model=fleet.model, prompt="Hi", stream=True)

    assert answer.choices[0].text == vllm.TEXT
    assert "".join([chunk.choices[0].text async for chunk in stream]) == vllm.TEXT


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
async def test_embeddings(fleet: Fleet, engine: Engine, client: AsyncOpenAI, encoding: Any) -> None:
    answer = await client.embeddings.create(model=fleet.model, input="Hi", **encoding)

    assert tuple(answer.data[0].embedding) == vllm.VECTOR
    assert answer.usage.prompt_tokens == vllm.PROMPT_TOKENS


async def test_responses(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    answer = await client.responses.create(model=fleet.model, input="Hi")

    assert answer.output_text == vllm.TEXT
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.cached_tokens == vllm.CACHED_TOKENS


async def test_streamed_responses(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    stream = await client.responses.create(model=fleet.model, input="Hi", stream=True)
    events = [event async for event in stream]

    assert "".join(event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)) == vllm.TEXT
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage is not None
    assert "stream_options" not in sent(engine)


async def test_a_transcription(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    answer = await client.audio.transcriptions.create(model=fleet.model, file=AUDIO, language="en")

    assert answer.text == vllm.TEXT
    assert vllm.fields(engine.requests[0]) == {"model": fleet.model.encode(), "language": b"en", "file": AUDIO[1]}


async def test_a_streamed_transcription(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    stream = await client.audio.transcriptions.create(model=fleet.model, file=AUDIO, stream=True)

    # vLLM's events are of a shape of its own, which OpenAI's client does not know and passes on as it is.
    events: list[Any] = [event.to_dict() async for event in stream]
    assert "".join(event["choices"][0]["delta"]["content"] for event in events) == vllm.TEXT


async def test_what_openais_client_has_no_method_for(fleet: Fleet, engine: Engine, client: AsyncOpenAI) -> None:
    def post(path: str, **fields: Any) -> Any:
        return client.post(path, body={"model": fleet.model, **fields}, cast_to=object)

    ranked = await post("/rerank", query="Hi", documents=["a", "b"])
    scored = await post("/score", text_1="a", text_2="b")
    tokenized = await post("/tokenize", prompt="Hi")

    assert [each["index"] for each in ranked["results"]] == [0, 1]
    assert scored["data"][0]["score"] == 0.5
    assert tokenized["tokens"] == [1, 2, 3]
    assert [request.path for request in engine.requests] == ["/v1/rerank", "/v1/score", "/tokenize"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_alias_is_the_model_to_the_engine(
    fleet: Fleet, engine: Engine, client: AsyncOpenAI, alias: str, stream: bool
) -> None:
    await client.chat.completions.create(model=alias, messages=MESSAGES, stream=stream)
    assert sent(engine)["model"] == fleet.model

    await client.audio.transcriptions.create(model=alias, file=AUDIO)
    assert vllm.fields(engine.requests[-1]) == {"model": fleet.model.encode(), "file": AUDIO[1]}


@pytest.mark.parametrize("operation", ["chat", "completions", "responses"])
async def test_a_stream_that_breaks_off_raises_in_openais_client(
    fleet: Fleet, broken_engine: Engine, client: AsyncOpenAI, operation: str
) -> None:
    stream: Any
    if operation == "chat":
        stream = await client.chat.completions.create(model=fleet.model, messages=MESSAGES, stream=True)
    elif operation == "completions":
        stream = await client.completions.create(model=fleet.model, prompt="Hi", stream=True)
    else:
        stream = await client.responses.create(model=fleet.model, input="Hi", stream=True)

    with pytest.raises(openai.APIError, match="broke off") as caught:
        [_ async for _ in stream]
    assert caught.value.code == "upstream_error"


# --- Anthropic's ---


async def test_a_message(fleet: Fleet, engine: Engine, claude: AsyncAnthropic) -> None:
    answer = await claude.messages.create(model=fleet.model, max_tokens=10, messages=MESSAGES)

    assert [block.text for block in answer.content if block.type == "text"] == [vllm.TEXT]
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (vllm.PROMPT_TOKENS, vllm.COMPLETION_TOKENS)
    assert "x-api-key" not in dict(engine.requests[0].headers)


async def test_a_streamed_message(fleet: Fleet, engine: Engine, claude: AsyncAnthropic) -> None:
    async with claude.messages.stream(model=fleet.model, max_tokens=10, messages=MESSAGES) as stream:
        text = "".join([text async for text in stream.text_stream])
        answer = await stream.get_final_message()

    assert text == vllm.TEXT
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", vllm.COMPLETION_TOKENS)


async def test_a_bearer_token_serves_anthropics_client_as_well(fleet: Fleet, engine: Engine) -> None:
    async with AsyncAnthropic(base_url=fleet.router.url, auth_token=fleet.key, max_retries=0) as claude:
        answer = await claude.messages.create(model=fleet.model, max_tokens=10, messages=MESSAGES)

    assert answer.stop_reason == "end_turn"


async def test_a_message_stream_that_breaks_off_raises_in_anthropics_client(
    fleet: Fleet, broken_engine: Engine, claude: AsyncAnthropic
) -> None:
    stream = await claude.messages.create(model=fleet.model, max_tokens=10, messages=MESSAGES, stream=True)

    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        [_ async for _ in stream]


async def test_anthropics_client_is_told_why_it_is_refused(fleet: Fleet, claude: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        await claude.messages.create(model="no/such-model", max_tokens=10, messages=MESSAGES)
    with pytest.raises(anthropic.AuthenticationError) as refused:
        await claude.with_options(api_key="inv_wrong").messages.create(
            model=fleet.model, max_tokens=10, messages=MESSAGES
        )

    for caught, kind in ((missing, "not_found_error"), (refused, "authentication_error")):
        body: Any = caught.value.body
        assert (body["type"], body["error"]["type"]) == ("error", kind)


# --- LiteLLM's ---


@pytest.fixture
def litellm() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as environ:
        environ.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the internet for prices
        yield pytest.importorskip("litellm")


def at(fleet: Fleet, provider: str) -> dict[str, Any]:
    url = fleet.router.url
    return {
        "model": f"{provider}/{fleet.model}",
        "api_base": url if provider == "anthropic" else f"{url}/v1",
        "api_key": fleet.key,
        "num_retries": 0,
        "timeout": 20,
    }


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
async def test_litellm_chats(fleet: Fleet, engine: Engine, litellm: ModuleType, provider: str) -> None:
    answer = await litellm.acompletion(messages=MESSAGES, **at(fleet, provider))

    assert answer.choices[0].message.content == vllm.TEXT
    assert answer.usage.prompt_tokens == vllm.PROMPT_TOKENS


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
async def test_litellm_streams(fleet: Fleet, engine: Engine, litellm: ModuleType, provider: str) -> None:
    stream = await litellm.acompletion(messages=MESSAGES, stream=True, **at(fleet, provider))

    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == vllm.TEXT


async def test_litellm_embeds_and_transcribes(fleet: Fleet, engine: Engine, litellm: ModuleType) -> None:
    embedded = await litellm.aembedding(input=["Hi"], encoding_format="float", **at(fleet, "openai"))
    transcribed = await litellm.atranscription(file=AUDIO, **at(fleet, "openai"))

    assert tuple(embedded.data[0]["embedding"]) == vllm.VECTOR
    assert transcribed.text == vllm.TEXT


async def test_litellm_is_told_that_a_stream_broke_off(
    fleet: Fleet, broken_engine: Engine, litellm: ModuleType
) -> None:
    stream = await litellm.acompletion(messages=MESSAGES, stream=True, **at(fleet, "openai"))

    with pytest.raises(litellm.exceptions.MidStreamFallbackError, match="broke off"):
        [_ async for _ in stream]
    await until(lambda: broken_engine.connections == 0)
