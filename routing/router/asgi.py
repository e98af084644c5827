"""ASGI's words, typed, and the two ways in which the router itself answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from routing.router.errors import ApiError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]  # names in lower case
Fields = Mapping[bytes, bytes]  # the same by name; of one that stands twice, the last


def header(headers: Headers, name: bytes) -> bytes | None:
    """The first header of this name."""
    for each, value in headers:
        if each == name:
            return value
    return None


HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def without(headers: Headers, unwanted: frozenset[bytes]) -> Headers:
    """The headers without these and without those that Connection names. `unwanted` should hold HOP_BY_HOP."""
    for name, value in headers:
        if name == b"connection":
            unwanted = unwanted | {token.strip().lower() for token in value.split(b",")}
    return [each for each in headers if each[0] not in unwanted]


def error_answer(error: ApiError) -> tuple[Headers, bytes]:
    """Headers and body."""
    body = error.envelope()
    return [*_of_json(body), *error.headers], body


async def answer_json(send: Send, body: Any, *, status: int = 200, request_id: bytes = b"") -> None:
    data = json.dumps(body).encode()
    headers = _of_json(data)
    if request_id:
        headers.append((b"x-request-id", request_id))
    await _answer(send, status, headers, data)


async def answer_error(send: Send, error: ApiError, *, body: bytes, request_id: bytes) -> None:
    """`body`: the error in the words of the client's API."""
    await _answer(send, error.status, [(b"x-request-id", request_id), *_of_json(body), *error.headers], body)


def _of_json(body: bytes) -> Headers:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
