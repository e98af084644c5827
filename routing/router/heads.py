"""The heads of HTTP/1.1 messages: a request's, read to the letter, and an answer's, written.

A request's head is split here and not by httptools, whose callbacks cost twice as much. What is accepted is less than
what llhttp, under httptools, accepts: the tests hold the two against each other.
"""

from __future__ import annotations

import http
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import httptools

from routing.router import errors, limits
from routing.router.asgi import Headers

END = b"\r\n\r\n"

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) ([\x21-\x7e]+) HTTP/(1\.[01])")
_BEGINNING = re.compile(rb"[A-Z]{1,20}(?: [^\r\n]*(?:\r(?:\n(?:[^\r\n]+\r\n)*[^\r\n]*\r?)?)?)?")
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_LINE_ENDS = b"\r\n\0"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}

_MOST_KNOWN, _LONGEST_KNOWN = 32, 512
_LONGEST_LENGTH = 18  # digits


@dataclass(frozen=True, slots=True)
class RequestLine:
    line: bytes
    method: str
    version: str  # "1.1" or "1.0"
    path: str
    raw_path: bytes
    query: bytes


class Lines:
    """Splits the heads that come over one connection. A client repeats itself, so that most lines were met before."""

    __slots__ = ("_first", "_known")

    def __init__(self) -> None:
        self._first: RequestLine | None = None
        self._known: dict[bytes, tuple[bytes, bytes]] = {}

    def split(self, head: bytes) -> tuple[RequestLine, Headers]:
        """`head`: without the empty line at its end. Raises ApiError."""
        line, *lines = head.split(b"\r\n")
        first = self._first
        if first is None or first.line != line:
            first = self._first = _request_line(line)
        known = self._known
        headers = [known.get(each) or self._learn(each) for each in lines]
        if len(headers) > limits.MOST_HEADERS:
            raise errors.too_many_headers(limits.MOST_HEADERS)
        return first, headers

    def _learn(self, line: bytes) -> tuple[bytes, bytes]:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise errors.not_http("a header is malformed")
        header = (found[1].lower(), found[2])
        if len(line) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[line] = header
        return header


def check_beginning(data: bytes) -> None:
    """Of a head that has not come to its end: what can't become a request is not waited for. Raises ApiError."""
    if not _BEGINNING.fullmatch(data):
        raise errors.not_http("its beginning is malformed")


def check(version: str, headers: Headers, fields: Mapping[bytes, bytes]) -> None:
    """`fields`: the headers by name. Raises ApiError."""
    if len(fields) != len(headers) or b"transfer-encoding" in fields:
        limits.check_framing(headers)
    if version != "1.1" and b"transfer-encoding" in fields:
        raise errors.not_http("Transfer-Encoding came with HTTP/1.0")
    if version == "1.1" and b"host" not in fields:
        raise errors.not_http("Host is missing")


def length_of(value: bytes) -> int:
    """Content-Length's value as a number. Raises ApiError."""
    if not value.isdigit() or len(value) > _LONGEST_LENGTH:
        raise errors.not_http("Content-Length is no number")
    return int(value)


def asks_to_close(headers: Headers) -> bool:
    return any(name == b"connection" and b"close" in value.lower() for name, value in headers)


def answer(status: int, lines: bytes, headers: Headers) -> bytes:
    """An answer's head: `lines`, whole ones, and the headers. Raises ValueError if one would break out of its line."""
    block = b"".join([name + b": " + value + b"\r\n" for name, value in headers])
    if len(block) - len(block.translate(None, _LINE_ENDS)) != 2 * len(headers):
        raise ValueError("a header of the answer has a line's end in it")
    return (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status) + lines + block + b"\r\n"


def _request_line(line: bytes) -> RequestLine:
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise errors.not_http("its first line is malformed")
    method, version = found[1].decode(), found[3].decode()
    if method not in _METHODS:
        raise errors.not_http("its method is unknown")
    target = found[2]
    if not target.startswith(b"/") and target != b"*":
        target = _without_origin(target)
    if b"#" in target:
        raise errors.not_http("its target has a fragment")
    raw_path, _, query = target.partition(b"?")
    return RequestLine(line, method, version, unquote(raw_path.decode()), raw_path, query)


def _without_origin(target: bytes) -> bytes:
    """Path and query of what is sent to a proxy (`GET http://host/path`), which a server has to take too."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        url = None
    if url is None or url.schema not in (b"http", b"https"):
        raise errors.not_http("its target is neither a path nor a URL")
    query = b"?" + url.query if url.query else b""
    return (url.path or b"/") + query
