"""The simulated engine: vLLM's HTTP API without a model behind it, at a speed that can be set.

    python -m fleet.providers.mock.engine --model MODEL [--port 8000] [--ttft 0.2] [--tokens-per-second 50]

The key comes in VLLM_API_KEY, and guards /v1 only, as vLLM's does. SIGTERM lets running requests end.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import hmac
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from fleet.providers.mock import engine_http as http
from fleet.providers.mock import engine_requests as requests
from fleet.providers.mock import speech
from fleet.providers.mock.engine_answers import Chat, Completion, Shape
from fleet.providers.mock.engine_http import Receive, Scope, Send
from fleet.providers.mock.engine_requests import Generation, Refusal

_VERSION = "0.33.0+simulated"
_SHUTDOWN_TIMEOUT = 120  # seconds
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Options:
    model: str
    api_key: str = ""  # empty: everybody may ask
    max_model_len: int = 32768  # tokens
    max_num_seqs: int = 256  # requests that run at once; more wait
    ttft: float = 0.2  # seconds
    tokens_per_second: float = 50.0  # of each request
    load_seconds: float = 0.0


class Engine:
    """The ASGI application."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.running = self.waiting = 0
        self.finished = {"stop": 0, "length": 0}
        self.prompt_tokens = self.generated_tokens = 0
        self._ready_at = time.monotonic() + options.load_seconds
        self._created = int(time.time())
        self._slots = asyncio.Semaphore(options.max_num_seqs)
        self._open: dict[tuple[str, str], Callable[[Send], Awaitable[None]]] = {
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/version"): lambda send: http.send_json(send, {"version": _VERSION}),
            ("GET", "/v1/models"): self._models,
        }
        self._work: dict[tuple[str, str], Callable[[dict[str, Any], Send], Awaitable[None]]] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("POST", "/v1/completions"): self._completion,
            ("POST", "/v1/embeddings"): self._embed,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._answer(scope, receive, send)
        except Refusal as refusal:
            await http.send_json(send, {"error": refusal.error}, status=refusal.status)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = (scope["method"], scope["path"])
        if scope["path"].startswith("/v1/") and not self._is_allowed(scope):
            await http.send_json(send, {"error": "Unauthorized"}, status=401)
        elif route in self._open:
            await self._open[route](send)
        elif route not in self._work:
            known = {path: method for method, path in [*self._open, *self._work]}
            status, words = (405, "Method Not Allowed") if scope["path"] in known else (404, "Not Found")
            raise Refusal(status, words, words)
        elif not self._is_ready():
            raise Refusal(503, "ServiceUnavailableError", "The model is still loading.")
        else:
            body = requests.parse(await http.read(receive), model=self.options.model)
            await http.until_gone(receive, self._work[route](body, send))

    def _is_allowed(self, scope: Scope) -> bool:
        if not self.options.api_key:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        return hmac.compare_digest(given, f"Bearer {self.options.api_key}".encode())

    def _is_ready(self) -> bool:
        return time.monotonic() >= self._ready_at

    # --- how it is ------------------------------------------------------------------------------------------------

    async def _health(self, send: Send) -> None:
        await http.answer(send, b"", content_type=b"text/plain", status=200 if self._is_ready() else 503)

    async def _models(self, send: Send) -> None:
        model = {
            "id": self.options.model,
            "object": "model",
            "created": self._created,
            "owned_by": "vllm",
            "root": self.options.model,
            "parent": None,
            "max_model_len": self.options.max_model_len,
        }
        await http.send_json(send, {"object": "list", "data": [model]})

    async def _metrics(self, send: Send) -> None:
        name = json.dumps(self.options.model)
        gauges = {
            "num_requests_running": self.running,
            "num_requests_waiting": self.waiting,
            "kv_cache_usage_perc": min(1.0, self.running / self.options.max_num_seqs),
        }
        lines = []
        for gauge, value in gauges.items():
            lines += [f"# TYPE vllm:{gauge} gauge", f"vllm:{gauge}{{model_name={name}}} {float(value)}"]
        for counter, number in (("prompt", self.prompt_tokens), ("generation", self.generated_tokens)):
            lines += [f"# TYPE vllm:{counter}_tokens counter"]
            lines += [f"vllm:{counter}_tokens_total{{model_name={name}}} {float(number)}"]
        lines += ["# TYPE vllm:request_success counter"]
        for reason, number in self.finished.items():
            labels = f'{{finished_reason="{reason}",model_name={name}}}'
            lines += [f"vllm:request_success_total{labels} {float(number)}"]
        text = "\n".join(lines) + "\n"
        await http.answer(send, text.encode(), content_type=b"text/plain; version=0.0.4; charset=utf-8")

    # --- what it does -----------------------------------------------------------------------------------------------

    async def _chat(self, body: dict[str, Any], send: Send) -> None:
        options = self.options
        generation = requests.chat(body, model=options.model, max_model_len=options.max_model_len)
        await self._generate(generation, send, Chat(options.model))

    async def _completion(self, body: dict[str, Any], send: Send) -> None:
        options = self.options
        generation = requests.completion(body, model=options.model, max_model_len=options.max_model_len)
        await self._generate(generation, send, Completion(options.model))

    async def _embed(self, body: dict[str, Any], send: Send) -> None:
        wanted = requests.embedding(body)
        async with self._slot():
            await asyncio.sleep(self.options.ttft)
            vectors = [speech.embed(text, dimensions=wanted.dimensions) for text in wanted.texts]
            self._count(prompt=wanted.prompt_tokens, reason="stop")
        data = [
            {"object": "embedding", "index": index, "embedding": speech.packed(vector) if wanted.base64 else vector}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": wanted.prompt_tokens, "total_tokens": wanted.prompt_tokens}
        await http.send_json(send, {"object": "list", "model": self.options.model, "data": data, "usage": usage})

    async def _generate(self, generation: Generation, send: Send, shape: Shape) -> None:
        async with self._slot():
            if generation.stream:
                await self._stream(generation, send, shape)
            else:
                async for _ in self._paced(generation):
                    pass
                await http.send_json(send, shape.whole(generation))
            self._count(prompt=generation.prompt_tokens, reason=generation.choices[0].finish_reason)

    async def _stream(self, generation: Generation, send: Send, shape: Shape) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for index, token, is_first in self._paced(generation):
            if is_first:
                await http.send_event(send, shape.opening(index))
            await http.send_event(send, shape.piece(index, token))
        for index, choice in enumerate(generation.choices):
            await http.send_event(send, shape.closing(index, choice.finish_reason))
        if generation.include_usage:
            await http.send_event(send, shape.usage(generation))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _paced(self, generation: Generation) -> AsyncIterator[tuple[int, str, bool]]:
        """(choice, token, whether it is the choice's first), each at its time."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self.options.ttft
        for index, choice in enumerate(generation.choices):
            for number, token in enumerate(choice.tokens):
                # A sleep even when late: no request may keep the others waiting.
                await asyncio.sleep(max(0.0, due - loop.time()))
                self.generated_tokens += 1
                yield index, token, number == 0
                due += 1 / self.options.tokens_per_second

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._slots.release()

    def _count(self, *, prompt: int, reason: str) -> None:
        self.prompt_tokens += prompt
        self.finished[reason] += 1


# --- the process ----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="engine", description="vLLM's HTTP API, simulated. No GPU is needed.")
    parser.add_argument("--model", required=True, help="the model to play")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    parser.add_argument("--max-model-len", type=int, default=Options.max_model_len, help="tokens; default: %(default)s")
    parser.add_argument("--max-num-seqs", type=int, default=Options.max_num_seqs, help="at once; default: %(default)s")
    parser.add_argument("--ttft", type=float, default=Options.ttft, help="seconds to first token; default: %(default)s")
    parser.add_argument(
        "--tokens-per-second", type=float, default=Options.tokens_per_second, help="default: %(default)s"
    )
    parser.add_argument("--load-seconds", type=float, default=0.0, help="not ready before; default: %(default)s")
    parser.add_argument("--parent", type=int, help="end when this process, our parent, does")
    arguments = vars(parser.parse_args(argv))
    host, port, parent = (arguments.pop(name) for name in ("host", "port", "parent"))
    if parent is not None:
        end_with(parent)
    engine = Engine(Options(api_key=os.environ.get("VLLM_API_KEY", ""), **arguments))
    uvicorn.run(
        engine,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
    )


def end_with(parent: int) -> None:
    """Linux ends us with our parent, even when that is killed; unless it was gone before we could ask for it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the parent process is gone")


if __name__ == "__main__":
    main()
