"""Our HTTP server, as clients and applications meet it."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from typing import Any

import pytest

from routing.router.asgi import Message, Receive, Scope, Send
from routing.router.wire.disconnects import EXTENSION, WhileConnected
from routing.router.wire.http_server import ClientDisconnected
from tests.routing.router.fleet import until
from tests.routing.router.wire.http_peer import (
    Recorder,
    answer,
    body_event,
    echo,
    read_all,
    read_answer,
    read_head,
    serving,
    start_event,
)

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: localhost\r\n"
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
MANY = 20_000_000  # bytes: more than all buffers between two sockets hold


def post(body: bytes, *headers: bytes) -> bytes:
    return HEAD + b"".join(each + b"\r\n" for each in headers) + b"content-length: %d\r\n\r\n%b" % (len(body), body)


def chunked(*pieces: bytes) -> bytes:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return HEAD + b"transfer-encoding: chunked\r\n\r\n" + sent + b"0\r\n\r\n"


# --- what the application gets ---


async def test_the_application_is_told_what_was_asked() -> None:
    app = Recorder()
    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(b"POST /a%20b/c?d=%20e HTTP/1.1\r\nHost: localhost\r\nX-Twice: 1\r\nX-Twice:  2\r\n\r\n")
        await read_answer(reader)

    (scope,) = app.scopes
    assert (scope["type"], scope["http_version"], scope["method"], scope["scheme"]) == ("http", "1.1", "POST", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b/c", b"/a%20b/c", b"d=%20e")
    assert scope["headers"] == [(b"host", b"localhost"), (b"x-twice", b"1"), (b"x-twice", b"2")]
    assert (scope["server"], scope["client"][0]) == (("127.0.0.1", served.port), "127.0.0.1")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://localhost/v1/models?a=b", "/v1/models", b"a=b"),
        (b"http://localhost", "/", b""),
        (b"/v1/models?", "/v1/models", b""),
        (b"//v1/../models", "//v1/../models", b""),
        (b"*", "*", b""),
    ],
)
async def test_a_target_may_be_a_path_or_a_url(target: bytes, path: str, query: bytes) -> None:
    app = Recorder()
    async with serving(app) as served:
        await served.exchange(b"OPTIONS %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % target)

    assert (app.scopes[0]["path"], app.scopes[0]["query_string"]) == (path, query)


@pytest.mark.parametrize("request_", [post(b"hello world"), chunked(b"hello", b" ", b"world")])
async def test_a_body_that_came_with_the_head_is_there_at_once(request_: bytes) -> None:
    messages: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        coroutine: Any = receive()
        with pytest.raises(StopIteration) as done:  # which it would not, if it waited for anything
            coroutine.send(None)
        messages.append(done.value.value)
        await answer(send)

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(request_)
        await read_answer(reader)

    assert messages == [{"type": "http.request", "body": b"hello world", "more_body": False}]


async def test_requests_are_understood_however_they_are_cut_into_packets() -> None:
    app = Recorder()
    requests = [post(b"first", b"X-A: b"), chunked(b"sec", b"ond"), GET, post(b"last")]
    draw = random.Random(1)
    async with serving(app) as served:
        for _ in range(30):
            reader, writer = await served.connect()
            for request in requests:
                cuts = sorted(draw.sample(range(1, len(request)), 4))
                for start, end in zip([0, *cuts], [*cuts, len(request)], strict=True):
                    writer.write(request[start:end])
                    await asyncio.sleep(0)
                await read_answer(reader)

    assert app.bodies == [b"first", b"second", b"", b"last"] * 30


async def test_the_lines_of_an_earlier_request_do_not_show_in_a_later_one() -> None:
    app = Recorder()
    async with serving(app) as served:
        reader, writer = await served.connect()
        for number in range(100):  # more than a connection remembers
            writer.write(post(b"", b"x-number: %d" % number, b"x-same: 1", *([b"x-odd: 1"] if number % 2 else [])))
            await read_answer(reader)

    for number, scope in enumerate(app.scopes):
        headers = dict(scope["headers"])
        assert (headers[b"x-number"], headers[b"x-same"]) == (str(number).encode(), b"1")
        assert (b"x-odd" in headers) == (number % 2 == 1)


# --- what the client gets ---


async def test_an_answer_in_one_piece_has_a_length_and_a_date() -> None:
    async with serving(echo) as served:
        reader, writer = await served.connect()
        for text in (b"one", b"two"):
            writer.write(post(text))
            got = await read_answer(reader)
            assert (got.status, got.body, got.headers["content-length"]) == (200, text, "3")
            assert got.headers["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"
            assert "connection" not in got.headers


async def test_an_answer_in_pieces_comes_in_chunks_as_they_are_sent() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start_event())
        await send(body_event(b"first", more=True))
        await go_on.wait()
        await send(body_event(b"", more=True))
        await send(body_event(b"last", more=False))

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(GET)
        status, headers = await read_head(reader)
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        assert await reader.readexactly(10) == b"5\r\nfirst\r\n"
        go_on.set()
        assert await reader.readexactly(14) == b"4\r\nlast\r\n0\r\n\r\n"


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
async def test_some_answers_have_no_body(method: bytes, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"unseen", status=status)

    async with serving(app) as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(GET.replace(b"GET", method))
            got = await read_answer(reader, without_body=True)
            assert (got.status, "transfer-encoding" in got.headers) == (status, False)


async def test_head_and_first_bytes_are_written_at_once() -> None:
    async with serving(echo) as served:
        transport = RecordingTransport()
        connection = served.new_connection()
        connection.connection_made(transport)

        connection.data_received(post(b"hello"))
        await until(lambda: transport.written != [])

        assert len(transport.written) == 1
        assert transport.written[0].endswith(b"\r\n\r\nhello")


async def test_the_connection_is_closed_when_either_side_says_so() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, headers=[(b"connection", b"close")] if scope["path"] == "/close" else [])

    async with serving(app) as served:
        for request in (
            b"GET / HTTP/1.1\r\nhost: localhost\r\nConnection: Keep-Alive, Close\r\n\r\n",
            b"GET /close HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ):
            got = await served.exchange(request)
            assert got.count(b"connection: close\r\n") == 1


async def test_http_1_0_is_answered_without_chunks_and_closed() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start_event())
        await send(body_event(b"one ", more=True))
        await send(body_event(b"two", more=False))

    async with serving(app) as served:
        got = await served.exchange(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")

    head, _, body = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head
    assert body == b"one two"


async def test_small_writes_are_not_held_back() -> None:
    nodelay: list[int] = []

    async with serving(echo) as served:
        reader, writer = await served.connect()
        writer.write(GET)
        await read_answer(reader)
        for connection in served.state.connections:
            sock: socket.socket = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
            nodelay.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    assert nodelay == [1]


# --- one request after the other ---


async def test_requests_sent_ahead_are_answered_in_order_one_at_a_time() -> None:
    at_work = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0)
        await answer(send, await read_all(receive))
        await asyncio.sleep(0)
        at_work -= 1

    texts = [b"%d" % n * (n % 7) for n in range(50)]
    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(b"".join(map(post, texts)))

        assert [(await read_answer(reader)).body for _ in texts] == texts


async def test_a_request_behind_chunks_that_came_together_is_left_to_be_asked_again() -> None:
    app = Recorder()
    async with serving(app) as served:
        got = await served.exchange(chunked(b"one") + post(b"two"))

    assert (got.count(b"HTTP/1.1 200"), b"connection: close" in got) == (1, True)
    assert app.bodies == [b"one"]


async def test_a_client_that_sends_ahead_is_held_back() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await answer(send)

    async with serving(app) as served:
        _, writer = await served.connect()
        writer.write(GET)
        writer.write(post(b"x" * MANY))

        await until_still(writer)
        assert writer.transport.get_write_buffer_size() > MANY / 2


async def test_a_client_whose_body_nobody_takes_is_held_back() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await answer(send, b"%d" % len(await read_all(receive)))

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(post(b"x" * MANY))
        await until_still(writer)
        assert writer.transport.get_write_buffer_size() > MANY / 2

        go_on.set()

        assert (await read_answer(reader)).body == b"%d" % MANY


async def test_a_client_is_asked_to_go_on_when_the_application_wants_the_body() -> None:
    async with serving(echo) as served:
        reader, writer = await served.connect()
        writer.write(HEAD + b"content-length: 5\r\nExpect: 100-Continue\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")

        assert (await read_answer(reader)).body == b"hello"


async def test_a_client_is_not_asked_to_go_on_when_it_is_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, status=401)

    async with serving(app) as served:
        got = await served.exchange(HEAD + b"content-length: 5\r\nexpect: 100-continue\r\n\r\n")

    assert got.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in got


async def test_an_upgrade_is_ignored() -> None:
    app = Recorder()
    async with serving(app) as served:
        reader, writer = await served.connect()
        for text in (b"one", b"two"):
            writer.write(post(text, b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAM"))
            assert (await read_answer(reader)).status == 200

    assert app.bodies == [b"one", b"two"]


# --- what is refused ---

REFUSED = {
    "bytes of another protocol": (b"\x16\x03\x01\x02\x00\x01", 400),
    "no HTTP": (b"hello\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nhost: x\r\n\r\n", 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 400),
    "an unknown method": (b"FETCH / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a method in small letters": (b"get / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    "two spaces": (b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a space in the target": (b"GET /a b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a fragment": (b"GET /a#b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target that is no path": (b"GET a HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a target of another scheme": (b"GET ftp://a/b HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "a byte beyond ASCII in the target": (b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (HEAD + b"host: localhost\r\n\r\n", 400),
    "two lengths": (HEAD + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx", 400),
    "length and chunks": (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks and length": (HEAD + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n", 400),
    "chunks twice": (HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another encoding": (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (HEAD + b"transfer-encoding: identity\r\n\r\n", 400),
    "chunks in HTTP/1.0": (b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a negative length": (HEAD + b"content-length: -1\r\n\r\n", 400),
    "a signed length": (HEAD + b"content-length: +1\r\n\r\nx", 400),
    "an empty length": (HEAD + b"content-length:\r\n\r\n", 400),
    "a length in another base": (HEAD + b"content-length: 0x1\r\n\r\nx", 400),
    "a list of lengths": (HEAD + b"content-length: 1, 1\r\n\r\nx", 400),
    "an enormous length": (HEAD + b"content-length: 99999999999999999999\r\n\r\n", 400),
    "a folded header": (HEAD + b"x: a\r\n b\r\n\r\n", 400),
    "a space before the colon": (HEAD + b"x : a\r\n\r\n", 400),
    "a header without a name": (HEAD + b": a\r\n\r\n", 400),
    "a header without a colon": (HEAD + b"x\r\n\r\n", 400),
    "a bare LF in a header": (HEAD + b"x: a\ny: b\r\n\r\n", 400),
    "a bare LF after the first line": (b"GET / HTTP/1.1\nhost: x\r\n\r\n", 400),
    "nothing but bare LFs": (b"GET / HTTP/1.1\nhost: x\n\n", 400),
    "a bare CR in a header": (HEAD + b"x: a\rb\r\n\r\n", 400),
    "a NUL in a header": (HEAD + b"x: a\0b\r\n\r\n", 400),
    "a NUL in a name": (HEAD + b"x\0: a\r\n\r\n", 400),
    "a chunk's size that is no number": (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    "a chunk's size in C": (HEAD + b"transfer-encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", 400),
    "a chunk's size beyond numbers": (HEAD + b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n", 400),
    "a chunk that is longer than it says": (HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", 400),
    "a chunk that ends in LF": (HEAD + b"transfer-encoding: chunked\r\n\r\n1\nx\n0\n\n", 400),
    "a large header": (HEAD + b"x: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    "a large header without an end": (HEAD + b"x: " + b"y" * 70_000, 431),
    "a large target": (b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
    "many headers": (HEAD + b"x: y\r\n" * 100 + b"\r\n", 431),
    "trailers without an end": (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 60_000, 431),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_it_is_refused_in_openais_envelope_and_the_connection_closed(request_: bytes, status: int) -> None:
    app = Recorder()
    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(request_ + GET)

        got = await read_answer(reader)

        assert (got.status, got.headers["connection"]) == (status, "close")
        assert got.error["type"] == "invalid_request_error"
        assert await reader.read() == b""
        assert app.bodies == []


async def test_a_head_that_does_not_come_in_time_is_refused() -> None:
    async with serving(echo, header_timeout=0.05) as served:
        got = await served.exchange(HEAD + b"x: y")

    assert got.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in got


async def test_a_client_that_says_nothing_is_hung_up_on() -> None:
    async with serving(echo, header_timeout=0.05) as served:
        assert await served.exchange(b"") == b""


async def test_a_kept_connection_that_is_idle_for_long_is_closed() -> None:
    async with serving(echo, idle_timeout=1) as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(GET)
            await read_answer(reader)

        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_the_time_for_a_head_does_not_run_while_an_answer_is_awaited() -> None:
    looked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await looked.wait()
        await answer(send)

    async with serving(app, header_timeout=0.05) as served:
        reader, writer = await served.connect()
        writer.write(GET)
        asyncio.get_running_loop().call_later(0.2, looked.set)

        assert (await read_answer(reader)).status == 200


# --- answers before the request has come ---


async def test_a_client_that_is_still_sending_sees_why_it_is_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"too much", status=413)

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(post(b"x" * MANY))

        got = await read_answer(reader)
        assert (got.status, got.body, got.headers["connection"]) == (413, b"too much", "close")
        async with asyncio.timeout(10):
            await writer.drain()
            assert await reader.read() == b""


async def test_what_is_left_of_a_small_request_is_passed_over() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, status=404)

    async with serving(app) as served:
        reader, writer = await served.connect()
        for _ in range(3):
            request = post(b"x" * 1000)
            writer.write(request[:-400])
            assert (await read_answer(reader)).status == 404
            writer.write(request[-400:])


async def test_the_application_is_not_told_of_a_body_after_it_has_answered() -> None:
    messages: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, status=404)
        messages.append((await receive())["type"])

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(post(b"x" * 1000)[:-400])
        await read_answer(reader)

        await until(lambda: messages == ["http.disconnect"])


async def test_a_body_that_turns_out_malformed_ends_the_request() -> None:
    outcome: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            outcome.append(message["body"].decode())
        with pytest.raises(ClientDisconnected):
            await send(start_event())

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await until(lambda: outcome == ["one"])
        writer.write(b"zz\r\n")

        got = await read_answer(reader)

        assert (got.status, got.headers["connection"]) == (400, "close")
        await until(lambda: not served.state.tasks)


# --- clients that leave ---


async def test_the_application_hears_when_the_client_leaves() -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][EXTENSION](lambda: heard.append("callback"))
        await read_all(receive)
        heard.append((await receive())["type"])
        with pytest.raises(ClientDisconnected):
            await send(start_event())
        scope["extensions"][EXTENSION](lambda: heard.append("late callback"))
        await until(lambda: "late callback" in heard)

    async with serving(app) as served:
        _, writer = await served.connect()
        writer.write(GET)
        await until(lambda: len(served.state.tasks) == 1)

        writer.close()

        await until(lambda: not served.state.tasks and not served.state.connections)
    assert heard == ["callback", "http.disconnect", "late callback"]


async def test_a_client_that_leaves_after_its_answer_disturbs_nothing() -> None:
    heard: list[str] = []
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"][EXTENSION](lambda: heard.append("callback"))
        await answer(send)
        await left.wait()
        heard.append("done")

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(GET)
        await read_answer(reader)
        writer.close()
        await until(lambda: not served.state.connections)
        left.set()
        await until(lambda: not served.state.tasks)

    assert heard == ["done"]


async def test_a_client_that_leaves_while_it_sends_ends_the_request() -> None:
    messages: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            messages.append((await receive())["type"])
            if messages[-1] == "http.disconnect":
                return

    async with serving(app) as served:
        _, writer = await served.connect()
        writer.write(post(b"hello")[:-2])
        await until(lambda: messages == ["http.request"])

        writer.close()

        await until(lambda: messages[-1] == "http.disconnect")


@pytest.mark.parametrize("extension", [True, False])
async def test_a_block_is_left_when_the_client_is_gone(extension: bool) -> None:
    outcome: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if not extension:
            scope["extensions"].clear()
        await read_all(receive)
        with WhileConnected(scope, receive, total_timeout=10):
            outcome.append("waiting")
            await asyncio.Event().wait()
        await asyncio.sleep(0)  # nothing of the cancellation is left
        outcome.append("left")

    async with serving(app) as served:
        _, writer = await served.connect()
        writer.write(GET)
        await until(lambda: outcome == ["waiting"])

        writer.close()

        await until(lambda: not served.state.tasks)
    assert outcome == ["waiting", "left"]


async def test_a_server_that_stops_is_told_apart_from_a_client_that_leaves() -> None:
    outcome: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with WhileConnected(scope, receive, total_timeout=10):
                outcome.append("waiting")
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcome.append("stopped")
            raise

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(GET)
        await until(lambda: outcome == ["waiting"])

        for task in served.state.tasks:
            task.cancel()

        assert (await read_answer(reader)).status == 503
    assert outcome == ["waiting", "stopped"]


async def test_time_that_runs_out_is_told_apart_as_well() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(TimeoutError), WhileConnected(scope, receive, total_timeout=0.01):
            await asyncio.Event().wait()
        await answer(send)

    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(GET)
        assert (await read_answer(reader)).status == 200


async def test_a_thousand_clients_leaving_at_once_leave_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start_event())
        await send(body_event(b"x" * 100, more=True))
        await read_all(receive)
        await receive()
        await send(body_event(b"x" * 100, more=True))

    async with serving(app) as served:
        writers = []
        for _ in range(1000):
            reader, writer = await served.connect()
            writer.write(GET)
            writers.append(writer)
        await reader.readexactly(100)
        await until(lambda: len(served.state.tasks) == 1000)

        for writer in writers:
            writer.transport.abort()

        await until(lambda: not served.state.tasks and not served.state.connections)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- clients that don't read ---


async def test_an_application_is_held_back_by_a_client_that_does_not_read() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start_event())
        while sent < MANY:
            await send(body_event(b"x" * 100_000, more=True))
            sent += 100_000
        await send(body_event(b"", more=False))

    async with serving(app) as served:
        reader, writer = await served.connect(limit=1000)
        writer.write(GET)
        await until_same(lambda: sent)
        assert 0 < sent < MANY / 2

        got = await read_answer(reader)

        assert len(got.body) == MANY


async def test_a_client_that_leaves_an_application_that_is_held_back_ends_it() -> None:
    outcome: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start_event())
        try:
            while True:
                await send(body_event(b"x" * 100_000, more=True))
        except OSError:
            outcome.append("gone")

    async with serving(app) as served:
        _, writer = await served.connect(limit=1000)
        writer.write(GET)
        await until(lambda: any(each._write_paused for each in served.state.connections))  # type: ignore[union-attr]

        writer.transport.abort()

        await until(lambda: outcome == ["gone"])


@pytest.mark.parametrize("more", [True, False])
async def test_a_client_that_takes_nothing_for_long_is_dropped(more: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start_event())
        await send(body_event(b"x" * MANY, more=more))

    async with serving(app, write_timeout=0.1) as served:
        _, writer = await served.connect(limit=1000)
        writer.write(GET)
        await until(lambda: len(served.state.connections) == 1)

        await until(lambda: not served.state.connections and not served.state.tasks)


# --- applications that fail ---


async def fail_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("on purpose")


async def fail_after_start(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start_event())
    raise RuntimeError("on purpose")


async def say_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    return


async def break_out_of_a_header(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, headers=[(b"x", b"a\r\nset-cookie: b")])


async def send_a_body_first(scope: Scope, receive: Receive, send: Send) -> None:
    await send(body_event(b"x", more=False))


async def promise_less(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, b"xx", headers=[(b"content-length", b"1")])


@pytest.mark.parametrize(
    "app", [fail_at_once, fail_after_start, say_nothing, break_out_of_a_header, send_a_body_first, promise_less]
)
async def test_an_application_that_fails_before_it_answers_is_our_fault(app: Any) -> None:
    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(GET)

        got = await read_answer(reader)

        assert (got.status, got.error["type"], got.headers["connection"]) == (500, "server_error", "close")
        assert await reader.read() == b""


async def fail_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start_event())
    await send(body_event(b"some", more=True))
    raise RuntimeError("on purpose")


async def end_midway(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start_event())
    await send(body_event(b"some", more=True))


async def promise_more(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start_event(200, (b"content-length", b"10")))
    await send(body_event(b"some", more=True))
    await send(body_event(b"", more=False))


@pytest.mark.parametrize("app", [fail_midway, end_midway, promise_more])
async def test_an_answer_that_was_begun_is_left_visibly_incomplete(app: Any) -> None:
    async with serving(app) as served:
        reader, writer = await served.connect()
        writer.write(GET)

        with pytest.raises((asyncio.IncompleteReadError, ValueError)):
            await read_answer(reader)
        assert await reader.read() == b""


async def test_after_its_answer_an_application_can_send_no_more() -> None:
    errors: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send)
        with pytest.raises(RuntimeError) as caught:
            await send(body_event(b"x", more=False))
        errors.append(str(caught.value))

    async with serving(app) as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(GET)
            assert (await read_answer(reader)).status == 200
        await until(lambda: len(errors) == 2)


# --- the server's end ---


async def test_at_the_servers_end_idle_connections_close_and_busy_ones_after_their_answer() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await go_on.wait()
        await answer(send)

    async with serving(app) as served:
        idle, idle_writer = await served.connect()
        idle_writer.write(GET)
        await read_answer(idle)
        busy, busy_writer = await served.connect()
        busy_writer.write(GET.replace(b"/ ", b"/wait "))
        await until(lambda: len(served.state.tasks) == 1)

        for connection in list(served.state.connections):
            connection.shutdown()

        async with asyncio.timeout(5):
            assert await idle.read() == b""
        go_on.set()
        assert (await read_answer(busy)).headers["connection"] == "close"
        await until(lambda: not served.state.connections)


# --- looking on ---


class RecordingTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0


async def until_still(writer: asyncio.StreamWriter) -> None:
    await until_same(writer.transport.get_write_buffer_size)


async def until_same(look: Any) -> None:
    """Until it has not changed for ten looks."""
    seen = [-1] * 10
    async with asyncio.timeout(10):
        while set(seen) != {look()}:
            seen = [*seen[1:], look()]
            await asyncio.sleep(0.02)
