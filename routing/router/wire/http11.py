"""Our HTTP/1.1 client for workers: asyncio.Protocol and kept connections. See `upstream` for the interface.

One object is connection and answer at once, because objects and hops are what costs here. An answer holds what arrived
since the last read and nothing else; above a mark the socket is not read until that was taken.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import cast

from routing.router.asgi import Headers
from routing.router.wire import heads
from routing.router.wire.chunks import ChunkedBody
from routing.router.wire.deadlines import Deadline
from routing.router.wire.upstream import (
    Broken,
    ClosedUnanswered,
    FirstByteTimeout,
    IdleTimeout,
    StreamedBody,
    Unreachable,
    UpstreamError,
    UpstreamRequest,
)

_HIGH_WATER = 256 * 1024  # bytes of an answer that wait for a slow client
_KEPT_FOR = 4.0  # seconds; engines on uvicorn close an idle connection after 5
_KEPT_PER_WORKER = 256
_SMALL = 64 * 1024  # bytes; up to that a body is cheaper to copy than to write apart
_WITHOUT_BODY = (204, 304)


class Pool:
    """Time-outs in seconds: to connect; to the first byte of an answer; between two chunks of it, or for the worker to
    take some of the request."""

    def __init__(self, *, connect_timeout: float, first_byte_timeout: float, idle_timeout: float) -> None:
        self.connect_timeout = connect_timeout
        self.first_byte_timeout = first_byte_timeout
        self.idle_timeout = idle_timeout
        self._kept: dict[tuple[str, int], list[Exchange]] = {}

    async def open(self, request: UpstreamRequest, *, fresh: bool = False) -> Exchange:
        # What can be sent only once is not risked on a connection that may be about to be closed.
        fresh = fresh or isinstance(request.body, StreamedBody)
        exchange = None if fresh else self._take((request.ip, request.port))
        if exchange is None:
            exchange = await self._connect(request.ip, request.port)
        try:
            await exchange.begin(request)
        except BaseException:
            exchange.close()
            raise
        return exchange

    def close(self) -> None:
        for exchanges in list(self._kept.values()):
            for exchange in list(exchanges):
                exchange.abort()

    def keep(self, exchange: Exchange) -> None:
        kept = self._kept.setdefault(exchange.address, [])
        if len(kept) >= _KEPT_PER_WORKER:
            kept.pop(0).abort()
        kept.append(exchange)

    def forget(self, exchange: Exchange) -> None:
        kept = self._kept.get(exchange.address)
        if kept is None:
            return
        if exchange in kept:
            kept.remove(exchange)
        if not kept:
            self._kept.pop(exchange.address, None)

    def _take(self, address: tuple[str, int]) -> Exchange | None:
        kept = self._kept.get(address)
        while kept:
            exchange = kept.pop()
            if exchange.is_usable():
                return exchange
            exchange.abort()
        return None

    async def _connect(self, ip: str, port: int) -> Exchange:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.connect_timeout):
                _, exchange = await loop.create_connection(lambda: Exchange(self, (ip, port)), ip, port)
        except TimeoutError:
            raise Unreachable(f"no connection within {self.connect_timeout:g} s") from None
        except OSError as error:
            raise Unreachable(str(error)) from error
        return exchange


class Exchange(asyncio.Protocol):
    """A connection, and the answer that comes over it at the moment."""

    # Slots, for there are more of them than CPython's dictionaries of instances hold well.
    __slots__ = (
        *("address", "status", "headers", "_pool", "_host", "_loop", "_transport", "_lines", "_deadline", "_waiter"),
        *("_error", "_busy", "_used_before", "_kept_until", "_read_paused", "_write_paused", "_writable", "_sending"),
        *("_partial", "_chunks", "_held", "_head_complete", "_chunked", "_missing", "_complete", "_keep_alive"),
        "_unanswered",
    )

    def __init__(self, pool: Pool, address: tuple[str, int]) -> None:
        self.address = address
        ip, port = address
        self._host = f"host: [{ip}]:{port}\r\n".encode() if ":" in ip else f"host: {ip}:{port}\r\n".encode()
        self.status = 0
        self.headers: Headers = []
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._lines = heads.Lines(heads.status_line)
        self._deadline = Deadline(self._loop)
        self._waiter: asyncio.Future[None] | None = None
        self._error: UpstreamError | None = None  # ends the connection: set once, never taken back
        self._busy = False
        self._used_before = False
        self._kept_until = 0.0
        self._read_paused = False
        self._write_paused = False
        self._writable: asyncio.Future[None] | None = None
        self._sending: asyncio.Task[None] | None = None  # of a body that is sent while it comes
        self._partial = b""  # of the answer's head
        self._chunks: list[bytes] = []
        self._held = 0  # bytes of these
        self._expect_answer()

    def _expect_answer(self) -> None:
        self._unanswered = True
        self._head_complete = False
        self._chunked: ChunkedBody | None = None
        self._missing: float = 0  # bytes of the answer that are to come; inf: until the connection is closed
        self._complete = False
        self._keep_alive = False

    # --- what the proxy calls ---

    async def begin(self, request: UpstreamRequest) -> None:
        """Send the request and wait until the answer's head is there."""
        self._expect_answer()
        self._busy = True
        if isinstance(request.body, StreamedBody):
            self._sending = self._loop.create_task(self._send(request, request.body))
            self._sending.add_done_callback(self._sent)
        else:
            self._write(self._head(request, len(request.body)), request.body)
        patience = request.first_byte_timeout or self._pool.first_byte_timeout
        while not self._head_complete:
            if self._error is not None:
                raise self._error
            if self._sending is not None and self._sending.done():
                self._sending.result()  # raises
            await self._arrival(patience if self._sending is None else inf)

    @property
    def ended(self) -> bool:
        return self._complete and not self._chunks

    async def read(self) -> bytes:
        while not self._chunks:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            await self._arrival(self._pool.idle_timeout)
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        if not self._busy:
            return
        self._busy = False
        # Only a request that was sent, and an answer that was read, to the end leave the connection clean for the next.
        if not (self.ended and self._keep_alive and self._error is None and self._sending is None):
            self.abort()
            return
        self._used_before = True
        self._kept_until = self._loop.time() + _KEPT_FOR
        self._pool.keep(self)

    def abort(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        self._transport.abort()
        self._end(Broken("closed by us"))

    def is_usable(self) -> bool:
        return self._error is None and self._loop.time() < self._kept_until and not self._transport.is_closing()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no instances of it

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._complete:
            self.abort()  # nobody asked for it: what follows could be taken for the next answer
            return
        self._unanswered = False
        try:
            if self._head_complete:
                self._receive_body(data)
            else:
                self._receive_head(data)
        except heads.Malformed as malformed:
            self._end(Broken(f"the answer is not HTTP: {malformed}"))
            return
        if self._held > _HIGH_WATER and not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()
        if self._head_complete:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._missing == inf and exc is None:
            self._complete = True
        if self._unanswered and self._used_before:
            self._end(ClosedUnanswered("the kept connection was closed"))
        else:
            self._end(Broken("the connection was closed"))
        self._pool.forget(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_sending()

    # --- the request ---

    def _head(self, request: UpstreamRequest, length: int | None) -> bytes:
        framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
        return heads.request(b"POST", request.path, request.headers, more_lines=self._host + framing)

    def _write(self, head: bytes, body: bytes) -> None:
        if len(body) <= _SMALL:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])

    async def _send(self, request: UpstreamRequest, body: StreamedBody) -> None:
        self._transport.write(self._head(request, body.length))
        left = inf if body.length is None else body.length
        async for piece in body.chunks:
            left -= len(piece)
            if left < 0:
                raise ValueError("the request's body is longer than was said")
            if piece:
                self._transport.writelines(_framed(piece) if body.length is None else [piece])
                await self._drain()
        if body.length is None:
            self._transport.write(b"0\r\n\r\n")
        elif left:
            raise ValueError("the request's body is shorter than was said")

    async def _drain(self) -> None:
        """Raises UpstreamError."""
        while self._write_paused and self._error is None:
            self._writable = self._loop.create_future()
            try:
                async with asyncio.timeout(self._pool.idle_timeout):
                    await self._writable
            except TimeoutError:
                self._end(FirstByteTimeout(f"took nothing of the request for {self._pool.idle_timeout:g} s"))
        if self._error is not None:
            raise self._error

    def _sent(self, sending: asyncio.Task[None]) -> None:
        """A failure is left for `begin` to raise, if that still waits."""
        if not sending.cancelled() and sending.exception() is None:
            self._sending = None
        self._wake()

    # --- the answer as it comes ---

    def _receive_head(self, data: bytes) -> None:
        data = self._partial + data
        while 0 <= (end := data.find(heads.END)) <= heads.MAX_SIZE:
            first, headers = self._lines.split(data[:end])
            data = data[end + len(heads.END) :]
            if first.status >= 200:
                self._partial = b""
                self._begin_answer(first, headers, data)
                return
        if len(data) > heads.MAX_SIZE:
            raise heads.TooLarge("its head is too large")
        self._partial = data

    def _begin_answer(self, first: heads.StatusLine, headers: Headers, rest: bytes) -> None:
        fields = dict(headers)
        length = heads.body_length(first.version, headers, fields)
        if first.status in _WITHOUT_BODY:
            self._missing = 0
        elif length is None:
            self._chunked = ChunkedBody()
        else:
            self._missing = length if b"content-length" in fields else inf
        lasts = first.version == "1.1" and self._missing != inf
        self._keep_alive = lasts and not heads.asks_to_close(headers, fields)
        self.status, self.headers = first.status, headers
        self._head_complete = True
        self._receive_body(rest)

    def _receive_body(self, data: bytes) -> None:
        if self._chunked is not None:
            self._receive_chunks(self._chunked, data)
            return
        if len(data) > self._missing:
            self._keep_alive = False  # it says more than it was asked
            data = data[: int(self._missing)]
        if data:
            self._missing -= len(data)
            self._held += len(data)
            self._chunks.append(data)
        self._complete = not self._missing

    def _receive_chunks(self, chunked: ChunkedBody, data: bytes) -> None:
        pieces = chunked.feed(data)
        self._held += sum(map(len, pieces))
        self._chunks += pieces
        if chunked.complete:
            self._complete = True
            self._keep_alive = self._keep_alive and not chunked.overrun
            chunked.close()

    # --- waiting ---

    def _arrival(self, at_most: float) -> asyncio.Future[None]:
        """Done when something has come: a head, a part of the body, a failure."""
        self._deadline.set(at_most, self._run_out)
        self._waiter = self._loop.create_future()
        return self._waiter

    def _wake(self) -> None:
        if self._waiter is not None:
            self._deadline.lift()
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    def _wake_sending(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _run_out(self) -> None:
        if self._head_complete:
            self._end(IdleTimeout("fell silent within its answer"))
        else:
            self._end(FirstByteTimeout("no answer in time"))

    def _end(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        self._deadline.cancel()
        self._wake()
        self._wake_sending()


def _framed(piece: bytes) -> list[bytes]:
    return [b"%x\r\n" % len(piece), piece, b"\r\n"]
