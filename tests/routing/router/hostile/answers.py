"""Reads answers to the letter of RFC 9112: whatever is not exactly that is an error of the router's."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) [\x20-\x7e]*\r\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\x20-\x7e\x80-\xff\t]*)\r\n")
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
_ONCE = {b"content-length", b"transfer-encoding", b"content-type", b"date", b"connection", b"x-request-id"}


class Malformed(Exception):
    """That is no HTTP/1.1 answer."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def request_id(self) -> str:
        return self.headers.get(b"x-request-id", b"").decode()


async def read(reader: asyncio.StreamReader, *, to_head: bool = False) -> Answer | None:
    """The next answer, interim ones left out; None if the router has hung up instead. `to_head`: it has no body.
    Raises Malformed."""
    while True:
        line = await _line(reader)
        if not line:
            return None
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise Malformed(f"status line {line!r}")
        status, headers = int(found[1]), await _headers(reader)
        if status >= 200:
            break
        if headers:
            raise Malformed(f"an interim answer with headers: {headers}")
    return Answer(status, headers, await _body(reader, status, headers, to_head=to_head))


def check_envelope(answer: Answer, *, in_anthropics_words: bool) -> None:
    """Raises Malformed if an error is not in OpenAI's envelope, or in Anthropic's for their clients."""
    if answer.headers.get(b"content-type") != b"application/json":
        raise Malformed(f"an error as {answer.headers.get(b'content-type')!r}")
    wanted = {"type", "message"} if in_anthropics_words else {"type", "message", "param", "code"}
    try:
        error = json.loads(answer.body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {}
    if set(error) != wanted or not (error["message"] and error["type"]):
        raise Malformed(f"not the envelope: {answer.body[:300]!r}")


async def _headers(reader: asyncio.StreamReader) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    while (line := await _line(reader)) != b"\r\n":
        found = _HEADER.fullmatch(line)
        if found is None:
            raise Malformed(f"header {line!r}")
        name = found[1].lower()
        if name in headers and name in _ONCE:
            raise Malformed(f"{name!r} twice")
        headers[name] = found[2]
    return headers


async def _body(reader: asyncio.StreamReader, status: int, headers: dict[bytes, bytes], *, to_head: bool) -> bytes:
    length, encoding = headers.get(b"content-length"), headers.get(b"transfer-encoding")
    if length is not None and encoding is not None:
        raise Malformed("both a length and chunks")
    if to_head or status in (204, 304):
        return b""
    if encoding == b"chunked":
        return await _chunks(reader)
    if length is not None:
        return await _exactly(reader, int(length))
    if headers.get(b"connection") != b"close":
        raise Malformed("neither a length nor chunks, and the connection is kept")
    return await reader.read()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        line = await _line(reader)
        found = _CHUNK_SIZE.fullmatch(line)
        if found is None:
            raise Malformed(f"chunk size {line!r}")
        size = int(found[1], 16)
        data = await _exactly(reader, size + 2)
        if not data.endswith(b"\r\n"):
            raise Malformed(f"chunk of {size} bytes ends with {data[-2:]!r}")
        if size == 0:
            return body
        body += data[:-2]


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n")
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            raise Malformed(f"cut short: {cut.partial[-300:]!r}") from None
        return b""
    except asyncio.LimitOverrunError:
        raise Malformed("a line of more than 64 KB") from None


async def _exactly(reader: asyncio.StreamReader, size: int) -> bytes:
    try:
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as cut:
        raise Malformed(f"cut short: {size - len(cut.partial)} bytes are missing") from None
