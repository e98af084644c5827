"""A request's body in chunks (`Transfer-Encoding: chunked`), taken out of them by llhttp."""

from __future__ import annotations

import httptools

from routing.router import errors, limits

_HEAD = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


class _NextRequest(Exception):
    """Stops the parser."""


class ChunkedBody:
    """`complete`: all chunks have come. `overrun`: what came after them is lost."""

    def __init__(self) -> None:
        self.complete = False
        self.overrun = False
        self._pieces: list[bytes] = []
        self._framing = 0  # bytes since the last one of the body
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of the body in it. Raises ApiError."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise errors.not_http(str(error)) from None
            self.overrun = True
        pieces, self._pieces = self._pieces, []
        self._framing = 0 if pieces else self._framing + len(data)
        if self._framing > limits.MAX_HEAD:  # trailers, or what may stand beside a chunk's size
            raise errors.headers_too_large(limits.MAX_HEAD)
        return pieces

    def close(self) -> None:
        del self._parser  # it refers to us

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def on_message_begin(self) -> None:
        if self.complete:
            raise _NextRequest
