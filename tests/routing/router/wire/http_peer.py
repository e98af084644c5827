"""Our HTTP server with an application of the test's own, and a client that is nothing but a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from routing.router.asgi import Message, Receive, Scope, Send
from routing.router.wire.http_server import HttpServer

App = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass
class Served:
    port: int
    state: ServerState
    new_connection: Callable[[], asyncio.Protocol]
    opened: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self, **limits: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **limits)
        self.opened.append(writer)
        return reader, writer

    async def exchange(self, data: bytes) -> bytes:
        """Send this, and read until the server closes."""
        reader, writer = await self.connect()
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()


@asynccontextmanager
async def serving(
    app: App, *, header_timeout: float = 10, write_timeout: float = 10, idle_timeout: int = 10
) -> AsyncIterator[Served]:
    server = HttpServer(header_timeout=header_timeout, write_timeout=write_timeout)
    config = uvicorn.Config(
        cast(Any, app),
        http=cast(Any, server),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=idle_timeout,
    )
    config.load()
    state = ServerState()
    state.default_headers = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")]
    loop = asyncio.get_running_loop()

    def new_connection() -> asyncio.Protocol:
        return server(config, state, {}, loop)

    listener = await loop.create_server(new_connection, "127.0.0.1", 0, backlog=2048)
    served = Served(listener.sockets[0].getsockname()[1], state, new_connection)
    try:
        yield served
    finally:
        listener.close()
        for writer in served.opened:
            writer.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


async def read_answer(reader: asyncio.StreamReader, *, without_body: bool = False) -> Answer:
    async with asyncio.timeout(10):
        status, headers = await read_head(reader)
        if without_body:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, await _read_chunks(reader))
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    return int(first.split(" ")[1]), dict(cast(tuple[str, str], line.split(": ", 1)) for line in lines)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    assert await reader.readline() == b"\r\n"
    return body


# --- applications ---


async def read_all(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += bytes(message["body"])
        if not message["more_body"]:
            return body


async def answer(send: Send, body: bytes = b"", *, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, await read_all(receive))


@dataclass
class Recorder:
    """Answers every request with its body, and keeps what it was told of it."""

    scopes: list[Scope] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.bodies.append(await read_all(receive))
        await answer(send, self.bodies[-1])


def body_event(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


def start_event(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}
