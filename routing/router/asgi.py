"""ASGI's words, typed, and the two ways in which the router itself answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from routing.router.errors import ApiError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # names in lower case


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first header of this name."""
    for each, value in headers:
        if each == name:
            return value
    return None


async def answer_json(send: Send, body: Any, *, status: int = 200) -> None:
    await _answer(send, status, json.dumps(body).encode(), more_headers=())


async def answer_error(send: Send, error: ApiError) -> None:
    await _answer(send, error.status, error.envelope(), more_headers=error.headers)


async def _answer(send: Send, status: int, body: bytes, *, more_headers: tuple[tuple[bytes, bytes], ...]) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *more_headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
