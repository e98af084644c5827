"""The real `openai` package against the router: its typed results and its typed errors."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests.acceptance.running_stack import MODEL, RunningStack

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Good morning, router"}]


@pytest.fixture
def client(stack: RunningStack, served: str) -> Iterator[openai.OpenAI]:
    with stack.openai() as client:
        yield client


def test_it_chats(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO)

    assert answer.model == MODEL
    assert answer.choices[0].finish_reason == "stop"
    assert "Good morning, router" in (answer.choices[0].message.content or "")
    assert answer.usage
    assert answer.usage.completion_tokens > 10


def test_it_streams_a_chat_token_by_token_with_its_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=HELLO)
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True})
    )

    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len([piece for piece in pieces if piece]) > 10
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_it_completes(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=7)

    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage
    assert answer.usage.completion_tokens == 7


def test_it_streams_a_completion(client: openai.OpenAI) -> None:
    chunks = list(client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=7, stream=True))

    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].text]) == 7


def test_it_embeds(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=["one text", "another text"])

    assert [row.index for row in answer.data] == [0, 1]
    assert all(len(row.embedding) > 100 for row in answer.data)
    assert answer.data[0].embedding != answer.data[1].embedding


def test_it_lists_the_models(client: openai.OpenAI) -> None:
    assert MODEL in {model.id for model in client.models.list()}


def test_it_refuses_a_wrong_key(stack: RunningStack, served: str) -> None:
    with stack.openai("inv_" + "x" * 43) as stranger, pytest.raises(openai.AuthenticationError) as refused:
        stranger.chat.completions.create(model=MODEL, messages=HELLO)

    assert refused.value.status_code == 401
    assert refused.value.code == "invalid_api_key"


def test_it_does_not_know_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody/nothing", messages=HELLO)

    assert refused.value.code == "model_not_found"
