"""Our HTTP/1.1 server: what uvicorn makes its connections of, leaner and stricter than uvicorn's own.

One object is the connection, the parser's target, and the application's `receive` and `send`, because objects and hops
are what costs here. It serves one request at a time: the next one, if a client sends it ahead, stays unparsed until the
application is done with this one. What is not HTTP/1.1 to the letter is refused, and the connection with it.

Any ASGI application runs on it, and ours runs on any ASGI server. Beyond ASGI it offers `disconnects.EXTENSION`. It
serves no WebSocket. Of uvicorn's settings it knows the application and how long a kept connection may be idle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Any, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

from routing.router import disconnects, errors, heads, limits
from routing.router.asgi import Headers, Message, Scope, error_answer
from routing.router.deadlines import Deadline
from routing.router.errors import ApiError

log = logging.getLogger(__name__)

_HIGH_WATER = 64 * 1024  # bytes of a body, or of requests sent ahead, that wait for the application
_ASGI = {"version": "3.0", "spec_version": "2.4"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSE = b"connection: close\r\n"


class ClientDisconnected(OSError):
    """What `send` raises when nobody is left to send to."""


class _Overrun(Exception):
    """Another request begins in the bytes that were to end this one."""


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

    # --- asyncio.Protocol ---

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
        self._parser = httptools.HttpRequestParser(self)
        self._deadline = Deadline(loop)
        self._task: asyncio.Task[None] | None = None
        self._ahead = b""  # sent before its turn
        self._partial = bytearray()  # the beginning of a head
        self._read_paused = False
        self._write_paused = False
        self._unsent = 0
        self._stopping = False
        self._closing = False
        self._gone = False
        self._discarded = 0
        self._on_gone: list[Callable[[], None]] = []
        self._receivers: list[asyncio.Future[None]] = []
        self._sender: asyncio.Future[None] | None = None
        self._chunks: list[bytes] = []
        self._expect_request()

    def _expect_request(self) -> None:
        self._url = b""
        self._headers: Headers = []
        self._scope: Scope | None = None
        self._length: bytes | None = None
        self._upgrading = False
        self._wants_continue = False
        self._received = 0  # bytes of the body
        self._taken = 0  # of these, by the application
        self._silent = 0  # bytes since the last one of the body
        self._received_all = False
        self._given_all = False
        self._start: Message | None = None
        self._head_sent = False
        self._answered = False
        self._keep_alive = False
        self._chunked = False
        self._left: float = 0  # bytes that the answer's length still promises

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
        else:
            self._parse(data)

    def eof_received(self) -> None:
        """A client that sends no more is taken to have left, as by most servers."""
        if self._transport.get_write_buffer_size():
            self._deadline.set(self._server.write_timeout, self._transport.abort)
        self._closing = True
        self._lose()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        self._lose()
        self._state.connections.discard(self)  # type: ignore[arg-type]
        self._deadline.cancel()
        del self._parser  # it refers to us

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

    def _parse(self, data: bytes) -> None:
        before = self._received
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            return self._parse_without_upgrade(data[stop.args[0] :])
        except httptools.HttpParserError as error:
            if not self._received_all:
                return self._refuse(_reason(error))
            self._keep_what_follows(data, before)
        if self._scope is not None:
            self._begin(self._scope, len(data))
        elif self._task is not None:
            self._go_on_with_body(len(data), before)
        elif self._answered:
            self._go_on()
        else:
            self._wait_for_head(data)

    def _begin(self, scope: Scope, size: int) -> None:
        self._scope = None
        if size + len(self._partial) > limits.MAX_HEAD:
            try:
                limits.check_size(scope["headers"], more=len(self._url))
            except ApiError as error:
                return self._refuse(error)
        if self._partial:
            self._partial.clear()
        self._deadline.lift()
        self._hold_client_back()
        self._task = self._loop.create_task(self._run(scope))
        self._state.tasks.add(self._task)

    def _wait_for_head(self, data: bytes) -> None:
        if not self._partial:
            self._deadline.set(self._server.header_timeout, self._give_up_on_head)
        self._partial += data
        if len(self._partial) > limits.MAX_HEAD:
            self._refuse(errors.headers_too_large(limits.MAX_HEAD))

    def _give_up_on_head(self) -> None:
        self._refuse(errors.headers_too_slow())

    def _go_on_with_body(self, size: int, before: int) -> None:
        self._silent = self._silent + size if self._received == before else 0
        if self._silent > limits.MAX_HEAD:  # of trailers, or of what may stand beside a chunk's size
            return self._refuse(errors.headers_too_large(limits.MAX_HEAD))
        self._hold_client_back()
        self._wake_receivers()

    def _parse_without_upgrade(self, rest: bytes) -> None:
        """Go on as if it had not been asked for, which HTTP allows. The parser takes the body for the other protocol,
        so that it has to read the head again."""
        assert self._scope is not None  # noqa: S101 - for the type checker
        scope, url = self._scope, self._url
        headers = [each for each in scope["headers"] if each[0] != b"upgrade"]
        self._parser = httptools.HttpRequestParser(self)
        self._partial.clear()
        self._expect_request()
        self._parse(heads.request(scope["method"], url, scope["http_version"], headers) + rest)

    def _keep_what_follows(self, data: bytes, before: int) -> None:
        """The parser ran on into the next request, and says not where that begins: find it, and start there anew."""
        self._parser = httptools.HttpRequestParser(self)
        if self._comes_in_chunks:
            self._keep_alive = False  # where the chunks end is lost: let the client ask again
            return
        end = self._received - before
        if self._scope is not None:
            whole = bytes(self._partial) + data
            blank = len(whole) - len(whole.lstrip(b"\r\n"))
            end += whole.index(b"\r\n\r\n", blank) + 4 - len(self._partial)
        self._ahead = data[end:]

    def _hold(self, data: bytes) -> None:
        self._ahead += data
        if len(self._ahead) > _HIGH_WATER:
            self._pause_reading()

    def _hold_client_back(self) -> None:
        # Not when all of it is here: a socket that is not read does not tell that the client has left.
        if self._received - self._taken > _HIGH_WATER and not self._received_all:
            self._pause_reading()

    # --- httptools' callbacks ---

    def on_message_begin(self) -> None:
        if self._received_all:
            raise _Overrun

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        method, version = self._parser.get_method().decode(), self._parser.get_http_version()
        headers, fields = self._headers, dict(self._headers)
        heads.check(method, version, headers, fields)
        path, raw_path, query = heads.split_target(self._url)
        self._headers = []  # for trailers, which nobody wants
        self._length = fields.get(b"content-length")
        self._comes_in_chunks = b"transfer-encoding" in fields
        self._upgrading = self._parser.should_upgrade()
        self._is_head = method == "HEAD"
        self._can_chunk = version == "1.1"
        self._wants_continue = self._can_chunk and fields.get(b"expect", b"").lower() == b"100-continue"
        self._keep_alive = self._can_chunk and self._parser.should_keep_alive() and not self._stopping
        self._scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": self._scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._local,
            "state": self._app_state.copy(),
            "extensions": {disconnects.EXTENSION: self.on_disconnect},
        }

    def on_body(self, body: bytes) -> None:
        self._received += len(body)
        if not self._answered:
            self._chunks.append(body)

    def on_message_complete(self) -> None:
        self._received_all = not self._upgrading

    # --- the application ---

    async def _run(self, scope: Scope) -> None:
        try:
            await self._app(scope, self.receive, self.send)  # type: ignore[arg-type]
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
        body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
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
            headers = self._without_framing(headers)
        if not self._received_all and self._is_much_left():
            self._keep_alive = False
        if not self._keep_alive:
            lines += _CLOSE
        return heads.answer(status, lines, headers)

    def _without_framing(self, headers: Headers) -> Headers:
        """What the application may not say about the connection, but for the wish to close it."""
        if any(name == b"connection" and b"close" in value.lower() for name, value in headers):
            self._keep_alive = False
        return [each for each in headers if each[0] not in (b"connection", b"transfer-encoding")]

    def _is_much_left(self) -> bool:
        """Of the request, which is answered before it has come: too much to take in for the sake of the connection."""
        if self._length is None or self._wants_continue:
            return True
        return int(self._length) - self._received > _HIGH_WATER

    def _end_answer(self) -> None:
        self._answered = True
        self._state.total_requests += 1
        self._chunks.clear()
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
            self._parse(ahead)
        else:
            self._deadline.set(self._idle_timeout, self._hang_up)

    def _break_off(self, error: ApiError | None = None) -> None:
        """The application fell short of an answer. Cut short where one has begun: its framing shows that."""
        if self._closing:
            return
        if self._head_sent:
            return self._end()
        if error is None:
            log.error("the application did not answer")
        self._refuse(error or errors.our_fault())

    def _refuse(self, error: ApiError) -> None:
        """Say what is wrong, where that can still be said, and end the connection."""
        if not self._head_sent:
            headers, body = error_answer(error)
            lines = self._server.default_lines(self._state) + _CLOSE
            self._transport.write(heads.answer(error.status, lines, headers) + body)
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


def _reason(error: httptools.HttpParserError) -> ApiError:
    if isinstance(error.__context__, ApiError):
        return error.__context__  # raised in a callback
    return errors.not_http(str(error))


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) and len(name) >= 2 else None
