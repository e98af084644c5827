"""Our HTTP/1.1 server: what uvicorn makes its connections of, leaner and stricter than uvicorn's own.

One object is the connection and the application's `receive` and `send`, because objects and hops are what costs here.
It serves one request at a time: the next one, if a client sends it ahead, is not looked at until the application has
done with this one. What is not HTTP/1.1 to the letter is refused, and the connection with it.

Any ASGI application runs on it, and ours runs on any ASGI server. Beyond ASGI it offers `disconnects.EXTENSION`. It
serves no WebSocket. Of uvicorn's settings it knows the application and how long a kept connection may be idle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from routing.router import errors, limits
from routing.router.asgi import Headers, Message, Scope, error_answer
from routing.router.errors import ApiError
from routing.router.wire import disconnects, heads
from routing.router.wire.chunks import ChunkedBody
from routing.router.wire.deadlines import Deadline

log = logging.getLogger(__name__)

_HIGH_WATER = 64 * 1024  # bytes of a body, or of requests sent ahead, that wait for the application
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"
_OURS = (b"connection", b"transfer-encoding")  # of an answer's headers, not the application's to say


class ClientDisconnected(OSError):
    """What `send` raises when nobody is left to send to."""


class HttpServer:
    """To be given to uvicorn: `uvicorn.Config(http=HttpServer(...))`.

    `header_timeout`: seconds for a request's head to arrive. `write_timeout`: seconds after which a client is dropped
    that was sent more than the socket holds and takes none of it.
    """

    def __init__(self, *, header_timeout: float, write_timeout: float) -> None:
        self.header_timeout = header_timeout
        self.write_timeout = write_timeout
        self._default_headers: Headers = []
        self._default_lines = b""

    def __call__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        return Connection(self, config, server_state, app_state, _loop or asyncio.get_running_loop())

    def default_lines(self, state: ServerState) -> bytes:
        """What uvicorn wants in every answer: the date, which it makes anew each second."""
        if state.default_headers is not self._default_headers:
            self._default_headers = state.default_headers
            self._default_lines = b"".join([b"%b: %b\r\n" % each for each in state.default_headers])
        return self._default_lines


class Connection(asyncio.Protocol):
    """Idle, or at one request: `_task` runs the application; then what is left of the request is thrown away.

    `_received_all` and `_answered` say how far the two messages have come. `_gone`: nobody is there to be answered.
    `_closing`: the last bytes have been written, and what still comes is not looked at.
    """

    # Slots, for there are more of them than CPython's dictionaries of instances hold well.
    __slots__ = (
        *("_server", "_app", "_app_state", "_state", "_loop", "_idle_timeout"),
        *("_transport", "_client", "_local", "_scheme", "_stopping", "_closing", "_gone", "_on_gone"),
        *("_deadline", "_read_paused", "_write_paused", "_unsent", "_discarded", "_receivers", "_sender"),
        *("_lines", "_partial", "_ahead", "_in_body", "_missing", "_chunks", "_body", "_received", "_taken"),
        *("_received_all", "_given_all", "_wants_continue", "_is_head", "_can_chunk", "_keep_alive"),
        *("_task", "_start", "_head_sent", "_has_body", "_chunked", "_left", "_answered"),
    )

    def __init__(
        self,
        server: HttpServer,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._server = server
        self._app = config.loaded_app
        self._idle_timeout = config.timeout_keep_alive
        self._state = state
        self._app_state = app_state
        self._loop = loop
        self._lines = heads.Lines(heads.request_line)
        self._partial = bytearray()  # a head that has not come to its end
        self._ahead = b""  # sent before its turn
        self._body: list[bytes] = []  # of the request, what the application has not taken
        self._task: asyncio.Task[None] | None = None
        self._deadline = Deadline(loop)
        self._read_paused = False
        self._write_paused = False
        self._unsent = 0
        self._discarded = 0
        self._receivers: list[asyncio.Future[None]] = []
        self._sender: asyncio.Future[None] | None = None
        self._on_gone: list[Callable[[], None]] = []
        self._stopping = False
        self._closing = False
        self._gone = False
        self._expect_request()

    def _expect_request(self) -> None:
        self._in_body = False
        self._chunks: ChunkedBody | None = None
        self._received = 0  # bytes of the body
        self._taken = 0  # of these, by the application
        self._received_all = False
        self._given_all = False
        self._wants_continue = False
        self._start: Message | None = None
        self._head_sent = False
        self._chunked = False
        self._left: float = 0  # bytes that the answer's length still promises
        self._answered = False

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no instances of it
        self._client = _address(transport.get_extra_info("peername"))
        self._local = _address(transport.get_extra_info("sockname"))
        self._scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        self._state.connections.add(self)  # type: ignore[arg-type]  # it knows of uvicorn's own
        self._deadline.set(self._server.header_timeout, self._hang_up)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            self._discard(data)
        elif self._received_all:
            self._hold(data)
        elif self._in_body:
            self._go_on_with_body(data)
        else:
            self._receive_head(data)

    def eof_received(self) -> None:
        """A client that sends no more is taken to have left, as by most servers."""
        if self._transport.get_write_buffer_size():
            self._deadline.set(self._server.write_timeout, self._transport.abort)
        self._closing = True
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._lose()
        self._state.connections.discard(self)
        self._deadline.cancel()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._watch_unsent()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._closing:
            return
        self._deadline.lift()
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)
        if self._answered and self._task is None:
            self._go_on()

    def shutdown(self) -> None:
        """Called by uvicorn when the server stops: end with the request that is under way."""
        self._stopping = True
        self._keep_alive = False
        if self._task is None and not self._closing:
            self._hang_up()

    # --- a request as it comes ---

    def _receive_head(self, data: bytes) -> None:
        if self._partial:
            seen = len(self._partial) - len(heads.END) + 1
            self._partial += data
            end = self._partial.find(heads.END, max(seen, 0))
            data = bytes(self._partial) if end >= 0 else b""
        else:
            data = data.removeprefix(b"\r\n")  # which old clients put behind a body
            end = data.find(heads.END)
        try:
            if end < 0:
                self._wait_for_head(data)
            else:
                self._begin(data, end)
        except heads.Malformed as malformed:
            self._refuse(_refusal(malformed))

    def _wait_for_head(self, beginning: bytes) -> None:
        if beginning:
            heads.check_beginning(beginning)
            self._partial += beginning
            self._deadline.set(self._server.header_timeout, self._give_up_on_head)
        if len(self._partial) > heads.MAX_SIZE:
            raise heads.TooLarge(f"more than {heads.MAX_SIZE} bytes")

    def _give_up_on_head(self) -> None:
        self._refuse(errors.headers_too_slow())

    def _begin(self, data: bytes, end: int) -> None:
        scope = self._read_head(data[:end])
        self._receive_body(data[end + len(heads.END) :])
        if self._received_all:
            scope["extensions"][limits.RECEIVED] = True
        if self._partial:
            self._partial.clear()
        self._deadline.lift()
        self._hold_client_back()
        self._task = self._loop.create_task(self._run(scope))
        self._state.tasks.add(self._task)

    def _read_head(self, head: bytes) -> Scope:
        if len(head) > heads.MAX_SIZE:
            raise heads.TooLarge(f"more than {heads.MAX_SIZE} bytes")
        first, headers = self._lines.split(head)
        fields = dict(headers)
        heads.check_host(first.version, headers, fields)
        length = heads.body_length(first.version, headers, fields)
        if length is None:
            self._chunks = ChunkedBody()
        self._missing = length or 0
        self._in_body = True
        self._is_head = first.method == "HEAD"
        self._can_chunk = first.version == "1.1"
        self._wants_continue = b"expect" in fields and self._can_chunk and fields[b"expect"].lower() == b"100-continue"
        self._keep_alive = self._can_chunk and not (self._stopping or heads.asks_to_close(headers, fields))
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": first.version,
            "method": first.method,
            "scheme": self._scheme,
            "path": first.path,
            "raw_path": first.raw_path,
            "query_string": first.query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._local,
            "state": self._app_state.copy(),
            "extensions": {disconnects.EXTENSION: self.on_disconnect},
        }

    def _receive_body(self, data: bytes) -> None:
        """Raises Malformed."""
        if self._chunks is not None:
            self._receive_chunks(self._chunks, data)
            return
        if len(data) > self._missing:
            data, self._ahead = data[: self._missing], data[self._missing :]
        if data:
            self._received += len(data)
            self._missing -= len(data)
            if not self._answered:
                self._body.append(data)
        self._received_all = not self._missing

    def _receive_chunks(self, chunks: ChunkedBody, data: bytes) -> None:
        pieces = chunks.feed(data)
        self._received += sum(map(len, pieces))
        self._body += pieces
        self._received_all = chunks.complete
        if chunks.overrun:
            self._keep_alive = False  # where the chunks ended is not known: let the client ask again
        if chunks.complete:
            chunks.close()

    def _go_on_with_body(self, data: bytes) -> None:
        try:
            self._receive_body(data)
        except heads.Malformed as malformed:
            self._refuse(_refusal(malformed))
            return
        if self._task is not None:
            self._hold_client_back()
            self._wake_receivers()
        elif self._received_all:
            self._go_on()

    def _hold(self, data: bytes) -> None:
        self._ahead += data
        if len(self._ahead) > _HIGH_WATER:
            self._pause_reading()

    def _hold_client_back(self) -> None:
        # Not when all of it is here: a socket that is not read does not tell that the client has left.
        if self._received - self._taken > _HIGH_WATER and not self._received_all:
            self._pause_reading()

    # --- the application ---

    async def _run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self.receive, self.send)
            if not self._answered:
                self._break_off()
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            self._break_off(errors.stopping())
            raise
        except Exception:
            log.exception("the application failed")
            self._break_off()
        finally:
            self._leave()

    async def receive(self) -> Message:
        while not (self._gone or self._answered):
            if self._received > self._taken or (self._received_all and not self._given_all):
                return self._take_body()
            if self._wants_continue and not self._head_sent:
                self._wants_continue = False
                self._transport.write(_CONTINUE)
            receiver = self._loop.create_future()
            self._receivers.append(receiver)
            await receiver
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._gone:
            raise ClientDisconnected
        kind = message["type"]
        if kind == "http.response.body" and self._start is not None and not self._answered:
            self._write(self._start, message.get("body", b""), more=message.get("more_body", False))
            if self._write_paused and not self._answered:
                await self._drain()
        elif kind == "http.response.start" and self._start is None:
            self._start = message  # goes with the first bytes of the body
        else:
            raise RuntimeError(f"{kind} is out of turn")

    def on_disconnect(self, callback: Callable[[], None]) -> None:
        """`disconnects.EXTENSION`: call it when the client hangs up before it was answered, from the event loop."""
        if self._gone:
            self._loop.call_soon(callback)
        else:
            self._on_gone.append(callback)

    def _take_body(self) -> Message:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._taken = self._received
        self._given_all = self._received_all
        self._resume_reading()
        return {"type": "http.request", "body": body, "more_body": not self._received_all}

    def _write(self, start: Message, body: bytes, *, more: bool) -> None:
        pieces = [] if self._head_sent else [self._head(start, len(body), more=more)]
        if self._chunked:
            if body:
                pieces += (b"%x\r\n" % len(body), body, b"\r\n")
            if not more:
                pieces.append(b"0\r\n\r\n")
        elif self._has_body:
            self._left -= len(body)
            if self._left < 0 or not (more or self._left in (0, inf)):
                raise RuntimeError("the answer is not as long as its content-length says")
            pieces.append(body)
        self._head_sent = True
        if len(body) < _HIGH_WATER:
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)
        if not more:
            self._end_answer()

    def _head(self, start: Message, size: int, *, more: bool) -> bytes:
        status, headers = start["status"], start.get("headers", [])
        lines = self._server.default_lines(self._state)
        fields = dict(headers)
        self._has_body = not self._is_head and status not in (204, 304)
        if b"content-length" in fields:
            self._left = int(fields[b"content-length"])
        elif not self._has_body:
            pass
        elif not more:
            self._left = size
            lines += b"content-length: %d\r\n" % size
        elif self._can_chunk:
            self._chunked = True
            lines += b"transfer-encoding: chunked\r\n"
        else:
            self._left = inf  # it ends with the connection
        if b"connection" in fields or b"transfer-encoding" in fields:
            self._keep_alive = self._keep_alive and not heads.asks_to_close(headers, fields)
            headers = [each for each in headers if each[0] not in _OURS]
        if not self._received_all and self._is_much_left():
            self._keep_alive = False
        if not self._keep_alive:
            lines += _CLOSE
        return heads.answer(status, headers, more_lines=lines)

    def _is_much_left(self) -> bool:
        """Of the request, which is answered before it has come: too much to take in for the sake of the connection."""
        return self._chunks is not None or self._wants_continue or self._missing > _HIGH_WATER

    def _end_answer(self) -> None:
        self._answered = True
        self._state.total_requests += 1
        self._body.clear()
        self._wake_receivers()

    async def _drain(self) -> None:
        while self._write_paused and not self._gone:
            if self._sender is None or self._sender.done():
                self._sender = self._loop.create_future()
            await self._sender
        if self._gone:
            raise ClientDisconnected

    # --- the end of a request, and of the connection ---

    def _leave(self) -> None:
        """The application is done."""
        assert self._task is not None  # noqa: S101 - for the type checker
        self._state.tasks.discard(self._task)
        self._task = None
        self._on_gone.clear()
        self._go_on()

    def _go_on(self) -> None:
        """Throw away what is left of the request that was answered, wait until the client has taken its answer, and
        take the next one."""
        if self._closing:
            return
        if not self._keep_alive:
            self._end()
        elif not self._received_all:
            self._resume_reading()
            self._deadline.set(limits.LINGER_SECONDS, self._hang_up)
        elif not self._write_paused:
            self._take_next()

    def _take_next(self) -> None:
        self._expect_request()
        ahead, self._ahead = self._ahead, b""
        self._resume_reading()
        if ahead:
            self._receive_head(ahead)
        else:
            self._deadline.set(self._idle_timeout, self._hang_up)

    def _break_off(self, error: ApiError | None = None) -> None:
        """The application fell short of an answer. Cut short where one has begun: its framing shows that."""
        if self._closing:
            return
        if self._head_sent:
            self._end()
        else:
            self._refuse(error or errors.our_fault())

    def _refuse(self, error: ApiError) -> None:
        """Say what is wrong, where that can still be said, and end the connection."""
        if not self._head_sent:
            headers, body = error_answer(error)
            lines = self._server.default_lines(self._state) + _CLOSE
            self._transport.write(heads.answer(error.status, headers, more_lines=lines) + body)
        self._linger()
        self._lose()

    def _end(self) -> None:
        if self._received_all and not self._ahead:
            self._hang_up()
        else:
            self._linger()

    def _hang_up(self) -> None:
        self._closing = True
        self._transport.close()
        self._deadline.set(self._server.write_timeout, self._transport.abort)

    def _linger(self) -> None:
        """End, but take in for a while what the client is still sending: a connection that is reset under it would lose
        the answer that says why."""
        self._closing = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._resume_reading()
        self._deadline.set(limits.LINGER_SECONDS, self._transport.abort)

    def _discard(self, data: bytes) -> None:
        self._discarded += len(data)
        if self._discarded > limits.LINGER_BYTES:
            self._transport.abort()

    def _lose(self) -> None:
        """Tell whoever waits that nobody is there any more."""
        self._gone = True
        self._wake_receivers()
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)
        if not self._answered:
            for callback in self._on_gone:
                callback()
        self._on_gone.clear()

    # --- waiting ---

    def _wake_receivers(self) -> None:
        for receiver in self._receivers:
            if not receiver.done():
                receiver.set_result(None)
        self._receivers.clear()

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            self._transport.resume_reading()

    def _watch_unsent(self) -> None:
        self._unsent = self._transport.get_write_buffer_size()
        self._deadline.set(self._server.write_timeout, self._look_at_unsent)

    def _look_at_unsent(self) -> None:
        """A client may be slow. One that took nothing at all is dropped."""
        if self._transport.get_write_buffer_size() < self._unsent:
            self._watch_unsent()
        else:
            self._transport.abort()


def _refusal(malformed: heads.Malformed) -> ApiError:
    reason = str(malformed)
    return errors.headers_too_large(reason) if isinstance(malformed, heads.TooLarge) else errors.not_http(reason)


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
