"""Lets web pages of other origins call the router, if a setting names them.

Off by default: a key that stands in a page is everybody's.

https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from routing.router import errors
from routing.router.asgi import Headers, Message, Scope, Send, header

_METHODS = b"GET, POST, OPTIONS"
_LIMITS = [
    b"x-ratelimit-%b-%b" % (fact, what)
    for fact in (b"limit", b"remaining", b"reset")
    for what in (b"requests", b"tokens")
]
_SHOWN = b", ".join([b"x-request-id", b"retry-after", *_LIMITS])
_REMEMBERED_FOR = b"600"  # seconds


class Cors:
    """`origins`: "https://app.example.com", or "*" for all."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def around(self, scope: Scope, send: Send) -> Send:
        """The same `send`, adding to an answer's head what its origin may be told."""
        allowed = self._allowed(scope["headers"]) if self._origins and scope["type"] == "http" else []
        if not allowed:
            return send

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *allowed]
            await send(message)

        return send_allowed

    async def preflight(self, scope: Scope, send: Send) -> None:
        """Raises ApiError where no web page may call."""
        if not self._allowed(scope["headers"]):
            raise errors.method_not_allowed("OPTIONS", scope["path"], allow="POST")
        asked = header(scope["headers"], b"access-control-request-headers") or b"authorization, content-type"
        headers = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", asked),
            (b"access-control-max-age", _REMEMBERED_FOR),
        ]
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _allowed(self, headers: Headers) -> Headers:
        origin = header(headers, b"origin")
        if origin is None or not (self._any or origin in self._origins):
            return []
        return [
            (b"access-control-allow-origin", b"*" if self._any else origin),
            (b"access-control-expose-headers", _SHOWN),
            (b"vary", b"origin"),
        ]
