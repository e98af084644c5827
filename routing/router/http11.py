"""Our HTTP/1.1 client for workers: asyncio.Protocol, httptools, kept connections. See `upstream` for the interface.

One object is connection, parser's target and answer at once, because objects and hops are what costs here. An answer
holds what arrived since the last read and nothing else; above a mark the socket is not read until that was taken.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import NoReturn

import httptools

from routing.router.asgi import Headers
from routing.router.upstream import (
    Broken,
    ClosedUnanswered,
    FirstByteTimeout,
    IdleTimeout,
    Unreachable,
    UpstreamError,
    UpstreamRequest,
)

_HIGH_WATER = 256 * 1024  # bytes of an answer that wait for a slow client
_KEPT_FOR = 4.0  # seconds; engines on uvicorn close an idle connection after 5
_KEPT_PER_WORKER = 256
_MAX_HEAD = 64 * 1024


class Pool:
    """Time-outs in seconds: to connect, to the first byte of an answer, between two chunks of it."""

    def __init__(self, *, connect_timeout: float, first_byte_timeout: float, idle_timeout: float) -> None:
        self.connect_timeout = connect_timeout
        self.first_byte_timeout = first_byte_timeout
        self.idle_timeout = idle_timeout
        self._kept: dict[tuple[str, int], list[Exchange]] = {}

    async def open(self, request: UpstreamRequest, *, fresh: bool = False) -> Exchange:
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
            if exchange.is_usable(time.monotonic()):
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

    def __init__(self, pool: Pool, address: tuple[str, int]) -> None:
        self.address = address
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._kept_since = 0.0
        self._used_before = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._busy = False
        self._error: UpstreamError | None = None  # ends the connection: set once, never taken back
        self._deadline = inf
        self._expect_answer()

    def _expect_answer(self) -> None:
        self.status = 0
        self.headers: Headers = []
        self._parser = httptools.HttpResponseParser(self)
        self._chunks: list[bytes] = []
        self._held = 0
        self._head_size = 0
        self._head_complete = False
        self._complete = False
        self._keep_alive = False
        self._until_close = False
        self._unanswered = True

    # --- what the proxy calls ---

    async def begin(self, request: UpstreamRequest) -> None:
        """Send the request and wait until the answer's head is there."""
        assert self._transport is not None  # noqa: S101 - for the type checker
        self._expect_answer()
        self._busy = True
        self._transport.write(_head(request) + request.body)
        while not self._head_complete:
            if self._error is not None:
                self._fail()
            await self._wait(self._pool.first_byte_timeout)

    @property
    def ended(self) -> bool:
        return self._complete and not self._chunks

    async def read(self) -> bytes:
        while not self._chunks:
            if self._complete:
                return b""
            if self._error is not None:
                self._fail()
            await self._wait(self._pool.idle_timeout)
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        if not self._busy:
            return
        self._busy = False
        # Only an answer that was read to its end leaves the connection clean for the next.
        if not (self.ended and self._keep_alive and self._error is None):
            self.abort()
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._used_before = True
        self._kept_since = time.monotonic()
        self._pool.keep(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(Broken("closed by us"))

    def is_usable(self, now: float) -> bool:
        return self._error is None and now - self._kept_since < _KEPT_FOR

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._complete:
            self.abort()  # nobody asked for it: what follows could be taken for the next answer
            return
        self._unanswered = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(Broken(f"the answer is not HTTP: {error}"))
        if not self._head_complete:
            self._head_size += len(data)
            if self._head_size > _MAX_HEAD:
                self._end(Broken("the answer's head is too large"))
        elif self._held > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_complete and self._until_close and exc is None and not self._complete:
            self._complete = True
        if self._unanswered and self._used_before:
            self._end(ClosedUnanswered("the kept connection was closed"))
        else:
            self._end(Broken("the connection was closed"))
        self._pool.forget(self)

    # --- httptools' callbacks ---

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []  # an interim answer: the real one follows
            return
        self.status = status
        self._until_close = status not in (204, 304) and not any(
            name in (b"content-length", b"transfer-encoding") for name, _ in self.headers
        )
        self._head_complete = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        if not self._head_complete:
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_message_begin(self) -> None:
        if self._complete:
            self._keep_alive = False  # a second answer to one request

    # --- waiting ---

    async def _wait(self, at_most: float) -> None:
        self._deadline = self._loop.time() + at_most
        self._waiter = self._loop.create_future()
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_clock)
        elif self._timer.when() > self._deadline:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look_at_clock)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._deadline = inf

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look_at_clock(self) -> None:
        """One timer serves the whole answer: it is set again only when it runs out too early."""
        self._timer = None
        if self._deadline == inf:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_clock)
            return
        if self._head_complete:
            self._end(IdleTimeout(f"silent for {self._pool.idle_timeout:g} s"))
        else:
            self._end(FirstByteTimeout(f"no answer within {self._pool.first_byte_timeout:g} s"))

    def _end(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def _fail(self) -> NoReturn:
        assert self._error is not None  # noqa: S101 - for the type checker
        raise self._error


def _head(request: UpstreamRequest) -> bytes:
    host = f"[{request.ip}]" if ":" in request.ip else request.ip
    lines = [b"POST %b HTTP/1.1\r\nhost: %b:%d\r\n" % (request.path, host.encode(), request.port)]
    lines += [b"%b: %b\r\n" % each for each in request.headers]
    lines.append(b"content-length: %d\r\n\r\n" % len(request.body))
    return b"".join(lines)
