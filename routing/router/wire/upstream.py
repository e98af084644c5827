"""The interface to a worker's engine: open a request, read the answer as it comes, close.

`http11.Pool` is what runs; another transport has to offer the same three methods and the same errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from routing.router.asgi import Headers


class UpstreamError(Exception):
    """The worker did not answer as it should."""


class Unreachable(UpstreamError):
    """No connection: the worker has seen nothing of the request. Try another instance; let this one rest."""


class ClosedUnanswered(UpstreamError):
    """A kept connection was closed before a byte of the answer, as a server may do when it tidies up. Try another
    instance, or this one again on a new connection."""


class FirstByteTimeout(UpstreamError):
    """No answer in time. The worker may be at work on it: don't send it again."""


class IdleTimeout(UpstreamError):
    """The answer stopped half-way and stayed silent for too long."""


class Broken(UpstreamError):
    """The answer is not HTTP, or ended before its end, or the connection broke during the request."""


@dataclass(frozen=True, slots=True)
class StreamedBody:
    """A body that is sent while it comes, and can be sent only once. What `chunks` raises, `open` raises, unless the
    worker has answered by then."""

    chunks: AsyncIterator[bytes]
    length: int | None  # of them all; None = not known


Body = bytes | StreamedBody


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    ip: str
    port: int
    path: bytes
    headers: Headers  # complete, but for Host and what frames the body
    body: Body
    first_byte_timeout: float | None = None  # seconds, once the body has been sent; None = the transport's own


class UpstreamResponse(Protocol):
    status: int
    headers: Headers

    @property
    def ended(self) -> bool:
        """Whether all of the body has been read."""

    async def read(self) -> bytes:
        """What has arrived since the last call, at least a byte; b"" at the end. Raises IdleTimeout, Broken."""

    def close(self) -> None:
        """Done with it: the connection is kept if the answer was read to its end, else closed at once."""


class Upstream(Protocol):
    async def open(self, request: UpstreamRequest, *, fresh: bool = False) -> UpstreamResponse:
        """Send the request and wait for the answer's head. `fresh`: not on a kept connection.

        Raises Unreachable, ClosedUnanswered, FirstByteTimeout, Broken. If cancelled, the connection is closed.
        """

    def close(self) -> None:
        """Close the kept connections."""
