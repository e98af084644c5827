"""A worker's engine, as the router meets it on the wire: it can answer, hang, refuse, break off."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

API_KEY = "the engine's key"


@dataclass
class Request:
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for each, value in self.headers if each == name), None)


@dataclass
class Engine:
    """What it does with a request is `behaviour`; the others are what it has seen."""

    port: int = 0
    behaviour: Behaviour = None  # type: ignore[assignment]
    requests: list[Request] = field(default_factory=list)
    connections: int = 0  # open at the moment
    connections_made: int = 0
    events_sent: int = 0
    left: int = 0  # how often the router hung up in the middle of an answer
    go_on: asyncio.Event = field(default_factory=asyncio.Event)  # what `hang` and a stream that waits wait for
    server: asyncio.Server | None = None
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def die(self) -> None:
        """Every connection breaks, and a new one is refused."""
        if self.server is not None:
            self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.connections_made += 1
        self.writers.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.connections -= 1
            self.writers.discard(writer)
            writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        answering = asyncio.create_task(self.behaviour(self, request, writer))
        leaving = asyncio.create_task(reader.read(1))
        done, _ = await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving in done and answering not in done:
            self.left += 1
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            return False
        # The router sends nothing before it has the answer, so nothing is lost with this read.
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        return await answering


Behaviour = Callable[[Engine, Request, asyncio.StreamWriter], Coroutine[Any, Any, bool]]


@asynccontextmanager
async def running(behaviour: Behaviour, *, port: int = 0) -> AsyncIterator[Engine]:
    """`port`: that of an engine that died, to come back there."""
    engine = Engine(behaviour=behaviour)
    engine.server = await asyncio.start_server(engine.serve, "127.0.0.1", port, backlog=1024)
    engine.port = engine.server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        engine.go_on.set()
        engine.die()
        async with asyncio.timeout(10):
            while engine.connections:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
    request = Request(path=first.split(" ")[1], headers=headers, body=b"")
    if request.header("transfer-encoding") == "chunked":
        request.body = await _read_chunks(reader)
    else:
        request.body = await reader.readexactly(int(request.header("content-length") or 0))
    return request


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


# --- behaviours: each answers whether the connection may be kept ---


def answer(body: Any, *, status: int = 200, headers: str = "") -> Behaviour:
    async def behave(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
        data = json.dumps(body).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
        writer.write(head.encode() + data)
        await writer.drain()
        return True

    return behave


def raw(data: bytes) -> Behaviour:
    """Sends these bytes and closes."""

    async def behave(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        return False

    return behave


def stream(*events: str, then: str = "end") -> Behaviour:
    """Sends server-sent events. `then`: "end", "die" (the connection breaks), "wait" (until `go_on`, then end)."""
    return stream_bytes(*(f"data: {event}\n\n".encode() for event in events), then=then)


def stream_bytes(*events: bytes, then: str = "end") -> Behaviour:
    """The same for events that are written out."""

    async def behave(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for data in events:
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
            engine.events_sent += 1
        if then == "die":
            return False
        if then == "wait":
            await engine.go_on.wait()
            data = b"data: [DONE]\n\n"
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    return behave


async def hang(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
    await engine.go_on.wait()
    return False


async def close_unanswered(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
    return False


def first(behaviour: Behaviour, *, then: Behaviour) -> Behaviour:
    """`behaviour` for the first request, `then` for all others."""

    async def behave(engine: Engine, request: Request, writer: asyncio.StreamWriter) -> bool:
        chosen = behaviour if len(engine.requests) == 1 else then
        return await chosen(engine, request, writer)

    return behave


# --- answers in OpenAI's shapes ---


def chat_completion(text: str = "Hello there") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def chat_chunk(text: str) -> str:
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
        }
    )
