"""What a request may be: from which host, how framed, how large, how slow."""

from __future__ import annotations

import asyncio

from routing.router import errors
from routing.router.asgi import Fields, Headers, Receive, Scope
from routing.router.wire import heads

LINGER_BYTES, LINGER_SECONDS = 64 * 1024 * 1024, 10.0
_HOSTS_KEPT = 100


# A server that has this among `scope["extensions"]` has the whole body: `receive()` will not have to wait for it, and
# no timer is needed.
RECEIVED = "inventiv.received"


class ClientGone(Exception):
    """The client hung up while it was still sending: there is nobody to answer."""


class AllowedHosts:
    """`names` as in Django's ALLOWED_HOSTS: "host", ".domain" with all below it, or "*"."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._any = "*" in names
        self._exact = frozenset(name.lower().encode() for name in names if not name.startswith("."))
        self._domains = tuple(name.lower().encode() for name in names if name.startswith("."))
        self._seen: set[bytes] = set()  # allowed ones, as clients write them

    def check(self, fields: Fields) -> None:
        """Raises ApiError."""
        host = fields.get(b"host", b"")
        if self._any or host in self._seen:
            return
        name = _without_port(host.lower())
        if name in self._exact or any(name == domain[1:] or name.endswith(domain) for domain in self._domains):
            if len(self._seen) < _HOSTS_KEPT:
                self._seen.add(host)
            return
        raise errors.bad_request("This host is not served here: add it to ALLOWED_HOSTS")


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() else host


def check_framing(headers: Headers) -> None:
    """What our own server has refused by itself, for one that has not (request smuggling). Raises ApiError."""
    fields = dict(headers)
    try:
        heads.body_length("1.1", headers, fields)
        heads.check_host("1.0", headers, fields)
    except heads.Malformed as error:
        raise errors.not_http(str(error)) from None
    if sum([len(name) + len(value) for name, value in headers]) > heads.MAX_SIZE:
        raise errors.headers_too_large(f"more than {heads.MAX_SIZE} bytes")


async def read_body(scope: Scope, receive: Receive, *, limit: int, within: float) -> bytes:
    """The whole body, counted while it is read: `limit` bytes, `within` seconds. Raises ApiError, ClientGone."""
    declared = scope["state"]["fields"].get(b"content-length")
    if declared is not None and int(declared) > limit:
        raise errors.body_too_large(limit)
    if RECEIVED in scope.get("extensions", ()):
        return await _read(receive, limit)
    try:
        async with asyncio.timeout(within):
            return await _read(receive, limit)
    except TimeoutError:
        raise errors.body_too_slow() from None


async def _read(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise errors.body_too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def linger(receive: Receive) -> None:
    """Take in what a refused client is still sending, within bounds: a connection that is reset under it would
    lose the answer that says why."""
    taken = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while taken < LINGER_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                taken += len(message.get("body", b""))
    except TimeoutError:
        return
