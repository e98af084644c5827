"""The heads of HTTP/1.1 messages: a request's and an answer's, read to the letter and written.

They are split here and not by httptools, whose callbacks cost twice as much. What is accepted is less than what llhttp,
under httptools, accepts: the tests hold the two against each other. Of chunks llhttp takes care; see `chunks`.
"""

from __future__ import annotations

import http
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote

import httptools

from routing.router.asgi import Fields, Headers

END = b"\r\n\r\n"
MAX_SIZE = 64 * 1024
MOST_HEADERS = 100

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/(1\.[01])")
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")
_BEGINNING = re.compile(rb"[A-Z]{1,20}(?: [^\r\n]*(?:\r(?:\n(?:[^\r\n]+\r\n)*[^\r\n]*\r?)?)?)?")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LINE_ENDS = b"\r\n\0"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}

_MOST_KNOWN, _LONGEST_KNOWN = 32, 512
_LONGEST_LENGTH = 18  # digits


class Malformed(Exception):
    """It is not HTTP/1.1 as we take it; the message says why."""


class TooLarge(Malformed):
    """More, or more headers, than is taken."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    method: str
    version: str  # "1.1" or "1.0"
    path: str
    raw_path: bytes
    query: bytes


@dataclass(frozen=True, slots=True)
class StatusLine:
    version: str
    status: int


First = TypeVar("First", RequestLine, StatusLine)


class Lines(Generic[First]):
    """Splits the heads that come over one connection: a peer repeats itself, so that most lines were met before.
    `read_first` is `request_line` or `status_line`."""

    __slots__ = ("_first", "_first_line", "_known", "_read_first")

    def __init__(self, read_first: Callable[[bytes], First]) -> None:
        self._read_first: Callable[[bytes], First] = read_first
        self._first_line = b""
        self._first: First | None = None
        self._known: dict[bytes, tuple[bytes, bytes]] = {}

    def split(self, head: bytes) -> tuple[First, Headers]:
        """`head`: without the empty line at its end. Raises Malformed."""
        line, *lines = head.split(b"\r\n")
        if self._first is None or self._first_line != line:
            self._first = self._read_first(line)
            self._first_line = line
        known = self._known
        headers = [known.get(each) or self._learn(each) for each in lines]
        if len(headers) > MOST_HEADERS:
            raise TooLarge(f"more than {MOST_HEADERS} headers")
        return self._first, headers

    def _learn(self, line: bytes) -> tuple[bytes, bytes]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Malformed("a header is malformed")
        header = (found[1].lower(), found[2])
        if len(line) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[line] = header
        return header


def request_line(line: bytes) -> RequestLine:
    """Raises Malformed."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Malformed("its first line is malformed")
    method, target, version = found[1].decode(), found[2], found[3].decode()
    if method not in _METHODS:
        raise Malformed("its method is unknown")
    if not target.startswith(b"/") and target != b"*":
        target = _without_origin(target)
    if b"#" in target:
        raise Malformed("its target has a fragment")
    raw_path, _, query = target.partition(b"?")
    return RequestLine(method, version, unquote(raw_path.decode()), raw_path, query)


def status_line(line: bytes) -> StatusLine:
    """Raises Malformed."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise Malformed("its first line is malformed")
    return StatusLine(found[1].decode(), int(found[2]))


def body_length(version: str, headers: Headers, fields: Fields) -> int | None:
    """Of a message with this head, the bytes of body that follow, 0 if it says nothing; None: they come in chunks.
    `fields`: the headers by name. Raises Malformed for whatever another reader might understand otherwise (request
    smuggling)."""
    if b"transfer-encoding" in fields:
        if version != "1.1" or fields[b"transfer-encoding"].lower() != b"chunked" or b"content-length" in fields:
            raise Malformed("its Transfer-Encoding is not as it must be")
        _forbid_twice(b"transfer-encoding", headers, fields)
        return None
    if b"content-length" not in fields:
        return 0
    _forbid_twice(b"content-length", headers, fields)
    length = fields[b"content-length"]
    if not length.isdigit() or len(length) > _LONGEST_LENGTH:
        raise Malformed("its Content-Length is no number")
    return int(length)


def check_host(version: str, headers: Headers, fields: Fields) -> None:
    """Raises Malformed."""
    if b"host" in fields:
        _forbid_twice(b"host", headers, fields)
    elif version == "1.1":
        raise Malformed("Host is missing")


def check_beginning(data: bytes) -> None:
    """Of a request's head that has not come to its end: what can't become one is not waited for. Raises Malformed."""
    if not _BEGINNING.fullmatch(data):
        raise Malformed("its beginning is malformed")


def asks_to_close(headers: Headers, fields: Fields) -> bool:
    if b"connection" not in fields:
        return False
    if len(fields) == len(headers):
        return b"close" in fields[b"connection"].lower()
    return any(name == b"connection" and b"close" in value.lower() for name, value in headers)


def request(method: bytes, path: bytes, headers: Headers, *, more_lines: bytes) -> bytes:
    """A request's head; `more_lines`: whole ones. Raises ValueError if a header would break out of its line."""
    return method + b" " + path + b" HTTP/1.1\r\n" + more_lines + _block(headers) + b"\r\n"


def answer(status: int, headers: Headers, *, more_lines: bytes) -> bytes:
    """An answer's head; see `request`."""
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return line + more_lines + _block(headers) + b"\r\n"


def _block(headers: Headers) -> bytes:
    block = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
    if len(block) - len(block.translate(None, _LINE_ENDS)) != 2 * len(headers):
        raise ValueError("a header has a line's end in it")
    return block


def _forbid_twice(name: bytes, headers: Headers, fields: Fields) -> None:
    if len(fields) != len(headers) and [each for each, _ in headers].count(name) > 1:
        raise Malformed(f"it has more than one {name.decode()}")


def _without_origin(target: bytes) -> bytes:
    """Path and query of what is sent to a proxy (`GET http://host/path`), which a server has to take too."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        url = None
    if url is None or url.schema not in (b"http", b"https"):
        raise Malformed("its target is neither a path nor a URL")
    query = b"?" + url.query if url.query else b""
    return (url.path or b"/") + query
