"""A body that comes in chunks (`Transfer-Encoding: chunked`): llhttp takes it out of them."""

from __future__ import annotations

import httptools

from routing.router.wire.heads import MAX_SIZE, Malformed, TooLarge

_HEAD = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"


class _NextMessage(Exception):
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
        """The pieces of the body in it. Raises Malformed."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.complete:
                raise Malformed(str(error)) from None
            self.overrun = True
        pieces, self._pieces = self._pieces, []
        self._framing = 0 if pieces else self._framing + len(data)
        if self._framing > MAX_SIZE:  # trailers, or what may stand beside a chunk's size
            raise TooLarge(f"more than {MAX_SIZE} bytes around its chunks")
        return pieces

    def close(self) -> None:
        del self._parser  # it refers to us

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete = True

    def on_message_begin(self) -> None:
        if self.complete:
            raise _NextMessage
