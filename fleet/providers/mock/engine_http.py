"""What the simulated engine needs of HTTP, over plain ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fleet.providers.mock.engine_requests import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 32 << 20  # bytes


async def read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "BadRequestError", "The client went away.")
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > MAX_BODY:
            raise Refusal(413, "BadRequestError", "The body is too large.")
        if not message.get("more_body"):
            return body


async def until_gone(receive: Receive, work: Awaitable[None]) -> None:
    """Do the work; stop if the client goes away, as vLLM does."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(receive())  # after the body, the only message left is the disconnect
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def answer(send: Send, body: bytes, *, content_type: bytes, status: int = 200) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send: Send, value: object, *, status: int = 200) -> None:
    await answer(send, json.dumps(value).encode(), content_type=b"application/json", status=status)


async def send_event(send: Send, value: dict[str, Any] | None) -> None:
    if value is not None:
        event = b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": event, "more_body": True})
