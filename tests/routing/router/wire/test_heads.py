"""Reading heads: never more lenient than llhttp, the parser of Node.js and of other Python servers."""

from __future__ import annotations

import random
from collections.abc import Callable

import httptools
import pytest

from routing.router.asgi import Headers
from routing.router.wire import heads
from routing.router.wire.heads import Malformed

REQUESTS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 0\r\nAuthorization: Bearer inv_x",
    b"GET /v1/models?a=%20b HTTP/1.1\r\nhost: [::1]\r\naccept: */*\r\nx-empty:\r\nX-Spaced:  a b\t ",
    b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked",
    b"OPTIONS * HTTP/1.0\r\nconnection: keep-alive, x\r\nexpect: 100-continue",
    b"HEAD http://localhost/a HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade",
)
ANSWERS = (
    b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT",
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked",
    b"HTTP/1.0 503 Service Unavailable\r\nconnection: close\r\nretry-after:  2",
    b"HTTP/1.1 404\r\nx-empty:",
)
SPLINTERS = (
    *(b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b": ", b"\x0b", b"\x7f", b"\x80", b"\xff", b"/", b"#"),
    *(b"content-length: 1\r\n", b"Transfer-Encoding: chunked\r\n", b"host: y\r\n", b"\r\n x: y", b"CONNECT ", b"%zz"),
    *(b"chunked", b", ", b"identity", b"+1", b"-", b"0x", b"1", b"99999999999999999999", b"HTTP/1.1", b"\xc3\xa9"),
)


Reader = Callable[[bytes], Headers | None]  # the headers of a head; None: it is refused


class Llhttp:
    """What llhttp makes of it."""

    def __init__(self) -> None:
        self.headers: Headers | None = None
        self._collected: Headers = []

    def read(self, parser: httptools.HttpRequestParser | httptools.HttpResponseParser, head: bytes) -> Headers | None:
        try:
            parser.feed_data(head + heads.END)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            return None
        return self.headers

    def on_header(self, name: bytes, value: bytes) -> None:
        self._collected.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.headers = self._collected


def request_as_llhttp(head: bytes) -> Headers | None:
    reader = Llhttp()
    return reader.read(httptools.HttpRequestParser(reader), head)


def answer_as_llhttp(head: bytes) -> Headers | None:
    reader = Llhttp()
    return reader.read(httptools.HttpResponseParser(reader), head)


def request_as_we(head: bytes) -> Headers | None:
    try:
        first, headers = heads.Lines(heads.request_line).split(head)
        heads.body_length(first.version, headers, dict(headers))
    except Malformed:
        return None
    return headers


def answer_as_we(head: bytes) -> Headers | None:
    try:
        first, headers = heads.Lines(heads.status_line).split(head)
        heads.body_length(first.version, headers, dict(headers))
    except Malformed:
        return None
    return headers


def mutated(head: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(head) + 1)
        gone = draw.choice((0, 0, 1, 1, 2, 5))
        head = head[:at] + draw.choice((b"", *SPLINTERS, bytes([draw.randrange(256)]))) + head[at + gone :]
    return head


BOTH = pytest.mark.parametrize(
    ("samples", "ours", "theirs"),
    [(REQUESTS, request_as_we, request_as_llhttp), (ANSWERS, answer_as_we, answer_as_llhttp)],
    ids=["requests", "answers"],
)


@BOTH
def test_it_reads_what_llhttp_reads(samples: tuple[bytes, ...], ours: Reader, theirs: Reader) -> None:
    for head in samples:
        assert ours(head) is not None
        assert ours(head) == theirs(head)


@BOTH
def test_it_accepts_nothing_that_llhttp_refuses_or_reads_otherwise(
    samples: tuple[bytes, ...], ours: Reader, theirs: Reader
) -> None:
    draw = random.Random(7)
    accepted = 0
    for _ in range(100_000):
        head = mutated(draw.choice(samples), draw)
        headers = ours(head)
        if headers is not None:
            accepted += 1
            assert theirs(head) == headers, head

    assert 5_000 < accepted < 95_000  # the sample holds both kinds


@pytest.mark.parametrize("head", REQUESTS)
def test_every_beginning_of_a_head_may_come_alone(head: bytes) -> None:
    for end in range(1, len(head) + len(heads.END) - 1):
        heads.check_beginning((head + heads.END)[:end])


@pytest.mark.parametrize("beginning", [b"\x16\x03\x01", b"get / ", b" ", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nx\n"])
def test_what_cannot_become_a_request_is_not_waited_for(beginning: bytes) -> None:
    with pytest.raises(Malformed):
        heads.check_beginning(beginning)


def test_a_line_is_remembered_as_it_was_read() -> None:
    lines = heads.Lines(heads.request_line)
    first = lines.split(REQUESTS[0])

    assert lines.split(REQUESTS[0]) == first
    assert lines.split(REQUESTS[0])[1] is not first[1]  # an application may change the list that it was given


def test_an_answers_header_cannot_break_out_of_its_line() -> None:
    for value in (b"a\r\nb: c", b"a\nb: c", b"a\rb", b"a\0b"):
        with pytest.raises(ValueError, match="line's end"):
            heads.answer(200, [(b"x", value)], more_lines=b"")
