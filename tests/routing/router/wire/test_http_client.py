"""The client for workers, against an engine that is nothing but a socket."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from routing.router.wire.http11 import Pool
from routing.router.wire.upstream import (
    Body,
    Broken,
    ClosedUnanswered,
    FirstByteTimeout,
    IdleTimeout,
    StreamedBody,
    Unreachable,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)
from tests.routing.router.fleet import until

MANY = 20_000_000  # bytes: more than all buffers between two sockets hold
FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Engine:
    port: int = 0
    connections: int = 0  # ever made
    closed: int = 0  # of these, by the client, or once their talk was over
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def request(self, body: Body = b"{}", *, first_byte_timeout: float | None = None) -> UpstreamRequest:
        return UpstreamRequest(
            ip="127.0.0.1",
            port=self.port,
            path=b"/v1/x",
            headers=[(b"x-a", b"b")],
            body=body,
            first_byte_timeout=first_byte_timeout,
        )


@asynccontextmanager
async def engine(talk: Talk) -> AsyncIterator[Engine]:
    """`talk` is what it does on each connection, which is closed when that is over."""
    self = Engine()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        self.connections += 1
        self.writers.append(writer)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            self.closed += 1
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    self.port = server.sockets[0].getsockname()[1]
    try:
        yield self
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def pool(*, first_byte: float = 10, idle: float = 10) -> AsyncIterator[Pool]:
    opened = Pool(connect_timeout=5, first_byte_timeout=first_byte, idle_timeout=idle)
    try:
        yield opened
    finally:
        opened.close()


async def take_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Head and body, which must have a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return head, await reader.readexactly(length)


def answering(*answers: bytes) -> Talk:
    """One answer for each request on a connection, then the end of it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await take_request(reader)
            writer.write(answer)

    return talk


async def always_fine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await take_request(reader)
        writer.write(FINE)


async def read_all(response: UpstreamResponse) -> bytes:
    body = b""
    while chunk := await response.read():
        body += chunk
    return body


async def ask(client: Pool, request: UpstreamRequest) -> bytes:
    response = await client.open(request)
    try:
        return await read_all(response)
    finally:
        response.close()


# --- requests ---


async def test_a_request_says_where_it_goes_and_how_long_it_is() -> None:
    seen: list[tuple[str, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await take_request(reader))
        writer.write(FINE)

    async with engine(talk) as worker, pool() as client:
        assert await ask(client, worker.request(b'{"a": 1}')) == b"ok"

        head, body = seen[0]
        assert head == (f"POST /v1/x HTTP/1.1\r\nhost: 127.0.0.1:{worker.port}\r\ncontent-length: 8\r\nx-a: b\r\n\r\n")
        assert body == b'{"a": 1}'


async def test_a_large_body_arrives_whole() -> None:
    sizes: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sizes.append(len((await take_request(reader))[1]))
        writer.write(FINE)

    async with engine(talk) as worker, pool() as client:
        await ask(client, worker.request(b"x" * MANY))

    assert sizes == [MANY]


async def test_a_header_cannot_break_out_of_its_line() -> None:
    async with engine(always_fine) as worker, pool() as client:
        request = worker.request()
        request.headers.append((b"x", b"a\r\nhost: evil"))

        with pytest.raises(ValueError, match="line's end"):
            await client.open(request)


async def test_small_writes_are_not_held_back() -> None:
    async with engine(always_fine) as worker, pool() as client:
        response = await client.open(worker.request())
        sock: socket.socket = response._transport.get_extra_info("socket")

        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_worker_that_refuses_connections_is_unreachable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with pool() as client:
            with pytest.raises(Unreachable):
                await client.open(Engine(port=closed.getsockname()[1]).request())


# --- answers ---

ANSWERS = {
    "a length": (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "chunks": (CHUNKED + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-trailer: a\r\n\r\n", b"hello"),
    "until the end": (b"HTTP/1.1 200 OK\r\n\r\nhello", b"hello"),
    "until the end, in HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
    "no body": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    "no reason": (b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
    "interim answers first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + FINE,
        b"ok",
    ),
}


@pytest.mark.parametrize(("answer", "body"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_is_understood_however_it_is_cut_into_packets(answer: bytes, body: bytes) -> None:
    draw = random.Random(1)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        cuts = sorted(draw.sample(range(1, len(answer)), 5))
        for start, end in zip([0, *cuts], [*cuts, len(answer)], strict=True):
            writer.write(answer[start:end])
            await asyncio.sleep(0.001)

    async with engine(talk) as worker, pool() as client:
        for _ in range(10):
            response = await client.open(worker.request(), fresh=True)
            assert (response.status, await read_all(response), response.ended) == (200, body, True)
            response.close()


@pytest.mark.parametrize("status", [204, 304])
async def test_some_answers_have_no_body_whatever_they_say(status: int) -> None:
    answer = b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\n" % status
    async with engine(answering(answer, FINE)) as worker, pool() as client:
        assert await ask(client, worker.request()) == b""
        assert await ask(client, worker.request()) == b"ok"
        assert worker.connections == 1


async def test_headers_come_with_names_in_small_letters_and_of_this_answer_only() -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Number: %d\r\n\r\n" % n for n in range(100)]
    async with engine(answering(*answers)) as worker, pool() as client:
        for number in range(100):
            response = await client.open(worker.request())
            assert response.headers == [(b"content-length", b"0"), (b"x-number", b"%d" % number)]
            response.close()
        assert worker.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"hello\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx\r\n\r\n",
        b"HTTP/1.1 200 OK\nx: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
    ],
)
async def test_what_is_no_answer_breaks_the_connection(answer: bytes) -> None:
    async with engine(answering(answer)) as worker, pool() as client:
        with pytest.raises(Broken):
            await client.open(worker.request())
        await until(lambda: worker.closed == 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_read_as_far_as_it_came(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(answer)
        await come.wait()
        writer.write(b"zz\r\n")

    come = asyncio.Event()
    async with engine(talk) as worker, pool() as client:
        response = await client.open(worker.request())
        got = await response.read()
        come.set()
        with pytest.raises(Broken):
            got += await read_all(response)
        response.close()
        assert got == b"hello"


async def test_a_worker_is_held_back_while_its_answer_is_not_read() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MANY)
        writer.write(b"x" * MANY)
        await writer.drain()
        await reader.read()

    async with engine(talk) as worker, pool() as client:
        response = await client.open(worker.request())
        await until_same(worker.writers[0].transport.get_write_buffer_size)
        assert worker.writers[0].transport.get_write_buffer_size() > MANY / 2

        assert len(await read_all(response)) == MANY
        response.close()


# --- time ---


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_an_answer_that_does_not_come_times_out() -> None:
    async with engine(silent) as worker, pool(first_byte=0.05) as client:
        with pytest.raises(FirstByteTimeout):
            await client.open(worker.request())
        await until(lambda: worker.closed == 1)


async def test_a_request_may_have_a_patience_of_its_own() -> None:
    async with engine(silent) as worker, pool(first_byte=100) as client:
        with pytest.raises(FirstByteTimeout):
            await client.open(worker.request(first_byte_timeout=0.05))


async def test_a_head_that_drips_does_not_buy_time() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not reader.at_eof():
            writer.write(b"y")
            await asyncio.sleep(0.01)

    async with engine(drip) as worker, pool(first_byte=0.1) as client:
        async with asyncio.timeout(5):
            with pytest.raises(FirstByteTimeout):
                await client.open(worker.request())


async def test_an_answer_that_falls_silent_times_out() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(CHUNKED + b"5\r\nhello\r\n")
        await reader.read()

    async with engine(talk) as worker, pool(idle=0.05) as client:
        response = await client.open(worker.request())
        assert await response.read() == b"hello"
        with pytest.raises(IdleTimeout):
            await response.read()
        response.close()
        await until(lambda: worker.closed == 1)


async def test_no_time_runs_out_while_nobody_waits_for_the_worker() -> None:
    go_on = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(CHUNKED + b"5\r\nhello\r\n")
        await go_on.wait()
        writer.write(b"0\r\n\r\n")
        await take_request(reader)
        writer.write(FINE)

    async with engine(talk) as worker, pool(first_byte=0.2, idle=0.2) as client:
        response = await client.open(worker.request())
        assert await response.read() == b"hello"
        await asyncio.sleep(0.4)  # as for a client that does not take what it was sent
        go_on.set()
        assert await response.read() == b""
        response.close()
        await asyncio.sleep(0.4)

        assert await ask(client, worker.request()) == b"ok"
        assert worker.connections == 1


async def test_a_request_that_is_given_up_closes_its_connection() -> None:
    async with engine(silent) as worker, pool() as client:
        asking = asyncio.create_task(client.open(worker.request()))
        await until(lambda: worker.connections == 1)

        asking.cancel()

        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: worker.closed == 1)


# --- kept connections ---


async def test_a_connection_serves_one_request_after_the_other() -> None:
    async with engine(always_fine) as worker, pool() as client:
        for _ in range(5):
            assert await ask(client, worker.request()) == b"ok"
        assert worker.connections == 1

        responses = [await client.open(worker.request()) for _ in range(3)]
        assert worker.connections == 3
        assert [await read_all(response) for response in responses] == [b"ok"] * 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nConnection: Keep-Alive\r\nConnection: Close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        FINE + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + FINE,
    ],
)
async def test_a_connection_that_is_not_clean_is_not_kept(answer: bytes) -> None:
    async with engine(answering(answer, FINE)) as worker, pool() as client:
        assert [await ask(client, worker.request()) for _ in range(2)] == [b"ok", b"ok"]
        assert worker.connections == 2


async def test_a_connection_whose_answer_was_not_read_to_its_end_is_not_kept() -> None:
    async with engine(answering(CHUNKED + b"5\r\nhello\r\n" + b"0\r\n\r\n", FINE)) as worker, pool() as client:
        response = await client.open(worker.request())
        response.close()

        assert await ask(client, worker.request()) == b"hello"
        assert worker.connections == 2


async def test_an_answer_that_nobody_asked_for_is_nobodys() -> None:
    async with engine(answering(FINE, FINE)) as worker, pool() as client:
        assert await ask(client, worker.request()) == b"ok"
        worker.writers[0].write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await until(lambda: worker.closed == 1)

        assert await ask(client, worker.request()) == b"ok"
        assert worker.connections == 2


async def test_a_kept_connection_that_is_closed_unanswered_is_told_apart_from_a_new_one() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if worker.connections == 1:
            await answering(FINE)(reader, writer)
        await take_request(reader)

    async with engine(talk) as worker, pool() as client:
        await ask(client, worker.request())

        with pytest.raises(ClosedUnanswered):
            await client.open(worker.request())
        with pytest.raises(Broken):
            await client.open(worker.request(), fresh=True)


async def test_a_connection_that_a_worker_closed_in_the_meantime_is_not_used() -> None:
    async with engine(answering(FINE)) as worker, pool() as client:
        for _ in range(5):
            assert await ask(client, worker.request()) == b"ok"
            await until(lambda: client._kept == {})
        assert worker.connections == 5


async def test_every_request_gets_its_own_answer_whatever_befalls_the_others() -> None:
    """A connection given back too early, or in a wrong state, would lose an answer or hand it to another request."""
    draw = random.Random(3)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await take_request(reader)
            await asyncio.sleep(draw.choice((0, 0, 0.001)))
            match draw.randrange(8):
                case 0:
                    return
                case 1:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
                    writer.write(body[:-1])
                    return
                case 2 | 3:
                    writer.write(CHUNKED)
                    for byte in body:
                        writer.write(b"1\r\n%c\r\n" % byte)
                        await asyncio.sleep(0)
                    writer.write(b"0\r\n\r\n")
                case 4:
                    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + body)
                    return
                case _:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    answered = 0

    async def ask_many(client: Pool, worker: Engine, number: int) -> None:
        nonlocal answered
        for n in range(40):
            body = b"request %d of %d" % (n, number)
            try:
                async with asyncio.timeout(draw.choice((5, 5, 5, 0.0005))):
                    assert await ask(client, worker.request(body)) == body
                    answered += 1
            except (UpstreamError, TimeoutError):
                continue

    async with engine(talk) as worker, pool() as client:
        async with asyncio.timeout(60):
            await asyncio.gather(*(ask_many(client, worker, number) for number in range(20)))
        assert answered > 200

        client.close()
        await until(lambda: worker.closed == worker.connections)


# --- bodies that are sent while they come ---


async def pieces(*given: bytes) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
        await asyncio.sleep(0)


async def test_a_body_that_comes_in_pieces_is_sent_with_its_length() -> None:
    seen: list[tuple[str, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await take_request(reader))
            writer.write(FINE)

    async with engine(talk) as worker, pool() as client:
        for _ in range(2):
            await ask(client, worker.request(StreamedBody(pieces(b"one ", b"", b"two"), length=7)))
        await ask(client, worker.request())

        assert [body for _, body in seen] == [b"one two", b"one two", b"{}"]
        assert worker.connections == 2  # the second was not risked on a kept one, the third was


async def test_without_a_length_it_is_sent_in_chunks() -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked\r\n" in head
        assert b"content-length" not in head
        seen.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(FINE)

    async with engine(talk) as worker, pool() as client:
        assert await ask(client, worker.request(StreamedBody(pieces(b"one ", b"", b"two"), length=None))) == b"ok"

    assert seen == [b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"]


async def test_an_answer_may_come_before_the_body_has() -> None:
    ended: list[str] = []

    async def endless() -> AsyncIterator[bytes]:
        try:
            yield b"some"
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"some")
        writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 8\r\n\r\ntoo much")
        await reader.read()

    async with engine(talk) as worker, pool() as client:
        response = await client.open(worker.request(StreamedBody(endless(), length=100)))
        assert (response.status, await read_all(response)) == (413, b"too much")
        response.close()

        await until(lambda: ended == ["ended"] and worker.closed == 1)
        assert client._kept == {}


async def test_the_patience_for_an_answer_begins_when_the_body_was_sent() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"
            await asyncio.sleep(0.05)

    async with engine(always_fine) as worker, pool(first_byte=0.1) as client:
        assert await ask(client, worker.request(StreamedBody(slowly(), length=5))) == b"ok"

    async with engine(silent) as worker, pool(first_byte=0.05) as client:
        with pytest.raises(FirstByteTimeout):
            await client.open(worker.request(StreamedBody(slowly(), length=5)))


async def test_a_body_that_fails_to_come_fails_the_request() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise LookupError("on purpose")

    async with engine(silent) as worker, pool() as client:
        with pytest.raises(LookupError, match="on purpose"):
            await client.open(worker.request(StreamedBody(failing(), length=100)))
        await until(lambda: worker.closed == 1)


@pytest.mark.parametrize("length", [2, 4])
async def test_a_body_of_another_length_than_was_said_fails_and_nothing_beyond_it_is_sent(length: int) -> None:
    seen: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.read())

    async with engine(talk) as worker, pool() as client:
        with pytest.raises(ValueError, match="than was said"):
            await client.open(worker.request(StreamedBody(pieces(b"xyz"), length=length)))
        await until(lambda: worker.closed == 1)

    assert len(b"".join(seen)) <= length


async def test_a_body_is_taken_no_faster_than_the_worker_takes_it() -> None:
    given = 0
    go_on = asyncio.Event()

    async def large() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(MANY // 100_000):
            given += 100_000
            yield b"x" * 100_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await take_request(reader)
        writer.write(FINE)

    async with engine(talk) as worker, pool() as client:
        asking = asyncio.create_task(ask(client, worker.request(StreamedBody(large(), length=MANY))))
        await until_same(lambda: given)
        assert 0 < given < MANY / 2

        go_on.set()
        assert await asking == b"ok"
        assert given == MANY


async def test_a_worker_that_takes_nothing_of_the_body_times_out() -> None:
    async def large() -> AsyncIterator[bytes]:
        for _ in range(MANY // 100_000):
            yield b"x" * 100_000

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with engine(talk) as worker, pool(idle=0.1) as client:
        with pytest.raises(FirstByteTimeout):
            await client.open(worker.request(StreamedBody(large(), length=MANY)))


async def test_a_worker_that_dies_while_a_body_is_sent_breaks_the_request() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000
            await asyncio.sleep(0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(500_000)
        writer.transport.abort()

    async with engine(talk) as worker, pool() as client:
        with pytest.raises(Broken):
            await client.open(worker.request(StreamedBody(endless(), length=None)))


async def until_same(look: Callable[[], int]) -> None:
    """Until it has not changed for ten looks, and is not as it was at first."""
    seen = [-1] * 10
    async with asyncio.timeout(10):
        while set(seen) != {look()} or not look():
            seen = [*seen[1:], look()]
            await asyncio.sleep(0.02)
