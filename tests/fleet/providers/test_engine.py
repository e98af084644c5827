"""The simulated engine, asked by the real client over real HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from fleet.providers.mock import machine
from tests.fleet.providers.waiting import eventually

MODEL = "some-org/Some-Model-7B"
KEY = "engine-key"
FAST = ("--ttft", "0", "--tokens-per-second", "100000")
HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hello, who are you?"}]


@dataclass(frozen=True)
class RunningEngine:
    process: subprocess.Popen[bytes]
    url: str

    def client(self, key: str = KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=20)

    def health(self) -> int:
        try:
            return httpx.get(f"{self.url}/health", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def metric(self, name: str) -> float:
        lines = httpx.get(f"{self.url}/metrics", timeout=5).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))


@contextmanager
def an_engine(arguments: Sequence[str] = FAST, *, ready: bool = True) -> Iterator[RunningEngine]:
    address = machine.free_address(set())
    with socket.socket() as probe:
        probe.bind((address, 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "fleet.providers.mock.engine", "--model", MODEL, "--host", address]
    process = subprocess.Popen(
        [*command, "--port", str(port), "--max-model-len", "2000", *arguments],
        env={**os.environ, "VLLM_API_KEY": KEY},
    )
    engine = RunningEngine(process, f"http://{address}:{port}")
    try:
        eventually(lambda: engine.health() in ({200} if ready else {200, 503}))
        yield engine
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def engine() -> Iterator[RunningEngine]:
    with an_engine() as running:
        yield running


def test_it_answers_a_chat_says_that_it_is_simulated_and_which_model_it_plays(engine: RunningEngine) -> None:
    answer = engine.client().chat.completions.create(model=MODEL, messages=HELLO)

    text = answer.choices[0].message.content or ""
    assert "simulated" in text
    assert MODEL in text
    assert "Hello, who are you?" in text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens == 4


def test_the_same_question_has_the_same_answer_streamed_or_not(engine: RunningEngine) -> None:
    whole = engine.client().chat.completions.create(model=MODEL, messages=HELLO)
    stream = engine.client().chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )

    chunks = list(stream)

    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_a_stream_without_the_option_tells_no_usage_and_ends_with_done(engine: RunningEngine) -> None:
    body = {"model": MODEL, "messages": HELLO, "stream": True, "max_tokens": 3}
    answer = httpx.post(
        f"{engine.url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=20
    )

    events = answer.text.strip().split("\n\n")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "data: [DONE]"
    assert not any('"usage"' in event for event in events)
    assert json.loads(events[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"


def test_it_says_no_more_than_max_tokens(engine: RunningEngine) -> None:
    answer = engine.client().chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=5)

    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_it_goes_on_to_min_tokens_and_past_its_end_if_told_to(engine: RunningEngine) -> None:
    create = engine.client().chat.completions.create
    longer = create(model=MODEL, messages=HELLO, extra_body={"min_tokens": 500})
    endless = create(model=MODEL, messages=HELLO, max_tokens=700, extra_body={"ignore_eos": True})

    assert longer.usage is not None
    assert endless.usage is not None
    assert (longer.usage.completion_tokens, longer.choices[0].finish_reason) == (500, "stop")
    assert (endless.usage.completion_tokens, endless.choices[0].finish_reason) == (700, "length")


def test_it_completes_prompts_streamed_or_not(engine: RunningEngine) -> None:
    client = engine.client()
    two = client.completions.create(model=MODEL, prompt=["one", "two"], max_tokens=100)
    stream = client.completions.create(model=MODEL, prompt="one", max_tokens=100, stream=True)

    assert [choice.index for choice in two.choices] == [0, 1]
    assert "".join(chunk.choices[0].text for chunk in stream) == two.choices[0].text
    assert '"two"' in two.choices[1].text


def test_its_embeddings_are_unit_vectors_near_for_texts_that_share_words(engine: RunningEngine) -> None:
    texts = ["a cat on a mat", "a cat on a hat", "stock exchange report"]
    answer = engine.client().embeddings.create(model=MODEL, input=texts, encoding_format="float")
    again = engine.client().embeddings.create(model=MODEL, input=texts, encoding_format="float")

    first, second, third = (item.embedding for item in answer.data)
    assert answer.data == again.data
    assert _dot(first, first) == pytest.approx(1)
    assert _dot(first, second) > 0.5 > _dot(first, third)
    assert answer.usage.prompt_tokens == 13


def test_its_embeddings_come_as_base64_too_which_the_client_asks_for_by_default(engine: RunningEngine) -> None:
    create = engine.client().embeddings.create
    packed = create(model=MODEL, input="a cat", dimensions=32)
    plain = create(model=MODEL, input="a cat", dimensions=32, encoding_format="float")

    assert len(plain.data[0].embedding) == 32
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)


def test_it_lists_its_model(engine: RunningEngine) -> None:
    (model,) = engine.client().models.list().data

    assert model.id == MODEL
    assert httpx.get(f"{engine.url}/version", timeout=5).json()["version"]


def test_its_key_guards_v1_only(engine: RunningEngine) -> None:
    with pytest.raises(openai.AuthenticationError):
        engine.client("another-key").chat.completions.create(model=MODEL, messages=HELLO)

    bare = httpx.get(f"{engine.url}/v1/models", timeout=5)
    assert (bare.status_code, bare.json()) == (401, {"error": "Unauthorized"})
    for path in ("/health", "/metrics", "/version"):
        assert httpx.get(f"{engine.url}{path}", timeout=5).status_code == 200


def test_an_unknown_model_is_not_found(engine: RunningEngine) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        engine.client().chat.completions.create(model="another/Model", messages=HELLO)

    assert caught.value.type == "NotFoundError"
    assert "another/Model" in caught.value.message


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", b"{not json"),
        ("chat/completions", b"[]"),
        ("chat/completions", b"{}"),
        ("chat/completions", b'{"messages": []}'),
        ("chat/completions", b'{"messages": ["hello"]}'),
        ("chat/completions", b'{"messages": [{"role": "user", "content": 5}]}'),
        ("chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}'),
        ("chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": "many"}'),
        ("chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": 2001}'),
        ("chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "n": 2}'),
        ("chat/completions", b'{"messages": [{"role": "user", "content": "a"}], "stream_options": 1}'),
        ("completions", b"{}"),
        ("completions", b'{"prompt": []}'),
        ("completions", b'{"prompt": ["a", 1]}'),
        ("embeddings", b'{"input": "a", "encoding_format": "hex"}'),
        ("embeddings", b'{"input": "a", "dimensions": 1000000}'),
    ],
)
def test_a_bad_request_is_refused_and_says_why(engine: RunningEngine, path: str, body: bytes) -> None:
    answer = httpx.post(f"{engine.url}/v1/{path}", content=body, headers={"Authorization": f"Bearer {KEY}"}, timeout=20)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "BadRequestError"
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v1/embeddings", 405)])
def test_what_it_does_not_have_is_not_found(engine: RunningEngine, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, engine.url + path, headers={"Authorization": f"Bearer {KEY}"}, timeout=5)

    assert answer.status_code == status


def test_it_is_not_healthy_while_it_loads() -> None:
    with an_engine([*FAST, "--load-seconds", "3600"], ready=False) as loading:
        assert loading.health() == 503
        with pytest.raises(openai.InternalServerError):
            loading.client().chat.completions.create(model=MODEL, messages=HELLO)


def test_its_metrics_tell_what_runs_and_what_waits_and_a_client_that_leaves_is_forgotten() -> None:
    with an_engine(["--ttft", "0", "--tokens-per-second", "20", "--max-num-seqs", "1"]) as slow:
        client = slow.client()
        first = client.chat.completions.create(model=MODEL, messages=HELLO, stream=True)
        next(iter(first))
        second = threading.Thread(
            target=lambda: client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
        )
        second.start()
        eventually(lambda: slow.metric("num_requests_waiting") == 1)
        assert slow.metric("num_requests_running") == 1
        assert slow.metric("kv_cache_usage_perc") == 1

        first.close()

        second.join()
        eventually(lambda: slow.metric("num_requests_running") == 0)
        assert slow.metric("num_requests_waiting") == 0
        assert slow.metric("request_success_total") == 1


def test_sigterm_lets_a_stream_end_whole() -> None:
    with an_engine(["--ttft", "0", "--tokens-per-second", "50"]) as draining:
        stream = draining.client().chat.completions.create(model=MODEL, messages=HELLO, stream=True, max_tokens=30)
        next(iter(stream))

        draining.process.send_signal(signal.SIGTERM)

        chunks = list(stream)
        assert chunks[-1].choices[0].finish_reason == "length"
        assert draining.process.wait(10) in (0, -signal.SIGTERM)


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, fleet.providers.mock.engine; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()

    assert not {"django", "celery", "psycopg", "redis", "sqlite3", "httpx", "openai"} & set(loaded)


def _dot(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))
