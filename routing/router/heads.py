"""The heads of HTTP/1.1 messages: what a request's may be, and how an answer's is written."""

from __future__ import annotations

import http
from collections.abc import Mapping
from urllib.parse import unquote

import httptools

from routing.router import errors, limits
from routing.router.asgi import Headers

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}


def check(method: str, version: str, headers: Headers, fields: Mapping[bytes, bytes]) -> None:
    """A request's head; `fields`: its headers by name. Refuses what the parser lets pass. Raises ApiError."""
    if version not in ("1.1", "1.0"):
        raise errors.version_not_supported()
    if method == "CONNECT":
        raise errors.bad_request("CONNECT is not served here")
    if len(headers) > limits.MOST_HEADERS:
        raise errors.too_many_headers(limits.MOST_HEADERS)
    if len(fields) != len(headers) or b"transfer-encoding" in fields:
        limits.check_framing(headers)
    if b"host" not in fields and version == "1.1":
        raise errors.bad_request("Host is missing")


def split_target(target: bytes) -> tuple[str, bytes, bytes]:
    """A request's target as path, raw path and query. Raises ApiError."""
    if not target.startswith(b"/") and target != b"*":
        target = _without_origin(target)
    if b"#" in target:
        raise errors.bad_request("The request's target has a fragment")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")  # the parser lets nothing else pass
    return unquote(path) if "%" in path else path, raw_path, query


def answer(status: int, lines: bytes, headers: Headers) -> bytes:
    """An answer's head: `lines`, whole ones, and the headers. Raises ValueError if one would break out of its line."""
    block = _lines(headers)
    if block.count(b"\r") != len(headers) or block.count(b"\n") != len(headers) or b"\0" in block:
        raise ValueError("a header of the answer has a line's end in it")
    return (_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status) + lines + block + b"\r\n"


def request(method: str, target: bytes, version: str, headers: Headers) -> bytes:
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method.encode(), target, version.encode(), _lines(headers))


def _lines(headers: Headers) -> bytes:
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers])


def _without_origin(target: bytes) -> bytes:
    """Path and query of what is sent to a proxy (`GET http://host/path`), which a server has to take too."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise errors.bad_request("The request's target is no URL") from None
    if url.schema not in (b"http", b"https"):
        raise errors.bad_request("The request's target is neither a path nor a URL of this server")
    query = b"?" + url.query if url.query else b""
    return (url.path or b"/") + query
