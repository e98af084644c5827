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


def error_answer(error: ApiError) -> tuple[Headers, bytes]:
    """Headers and body."""
    body = error.envelope()
    return [*_of_json(body), *error.headers], body


async def answer_json(send: Send, body: Any, *, status: int = 200) -> None:
    data = json.dumps(body).encode()
    await _answer(send, status, _of_json(data), data)


async def answer_error(send: Send, error: ApiError) -> None:
    await _answer(send, error.status, *error_answer(error))


def _of_json(body: bytes) -> Headers:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
