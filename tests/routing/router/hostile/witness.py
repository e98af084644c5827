"""An engine that answers whatever it gets, and writes down what is not to the letter what the router should send."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from routing.router.bodies import surfaces
from tests.routing.router import engine as engines

_FIRST_LINE = re.compile(rb"POST (/[a-z0-9/_]+) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9a-z-]+): ([\x20-\x7e\x80-\xff\t]*)")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_PATHS = frozenset(surface.engine_path for surface in surfaces.BY_PATH.values())
_ONCE = (b"host", b"authorization", b"x-request-id")
_NEVER = (
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"trailer", b"upgrade"),
    *(b"proxy-authenticate", b"expect", b"cookie", b"x-api-key", b"api-key"),
)
_ANSWER = json.dumps(engines.chat_completion("fine")).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(_ANSWER)


@dataclass
class Witness:
    port: int = 0
    seen: Counter[str] = field(default_factory=Counter)  # how often each request came, by its id
    offences: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._take_request(reader):
                writer.write(_HEAD + _ANSWER)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client left, and the router with him
        finally:
            writer.close()

    async def _take_request(self, reader: asyncio.StreamReader) -> bool:
        """Returns whether another one may follow."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            self.offences.append("a head of more than 64 KB")
            return False
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        headers = [(found[1], found[2]) for line in lines if (found := _HEADER.fullmatch(line))]
        problem = _problem(first, lines, headers, port=self.port)
        if problem:
            self.offences.append(f"{problem}: {head[:1500]!r}")
            return False
        fields = dict(headers)
        await _body(reader, fields)
        self.seen[fields[b"x-request-id"].decode("latin-1")] += 1
        return True


@asynccontextmanager
async def listening() -> AsyncIterator[Witness]:
    witness = Witness()
    server = await asyncio.start_server(witness.serve, "127.0.0.1", 0, backlog=1024)
    witness.port = server.sockets[0].getsockname()[1]
    try:
        yield witness
    finally:
        server.close()


def _problem(first: bytes, lines: list[bytes], headers: list[tuple[bytes, bytes]], *, port: int) -> str:
    found = _FIRST_LINE.fullmatch(first)
    if found is None or found[1] not in _PATHS:
        return "not a POST to a path of an engine"
    if len(headers) != len(lines):
        return "a header that is none"
    # Some servers take _ for -, and would read what is named so as what it looks like.
    counts = Counter(name.replace(b"_", b"-") for name, _ in headers)
    if any(counts[name] != 1 for name in _ONCE):
        return "not each of host, authorization and x-request-id once"
    if counts[b"content-length"] + counts[b"transfer-encoding"] != 1:
        return "not one length, or chunks"
    for name in _NEVER:
        if counts[name]:
            return f"{name.decode()} is not the engine's to know"
    fields = dict(headers)
    if fields[b"host"] != b"127.0.0.1:%d" % port:
        return "another's host"
    if fields[b"authorization"] != f"Bearer {engines.API_KEY}".encode():
        return "not our key"
    return ""


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes]) -> None:
    """Raises IncompleteReadError if the router gave up, or does not send what it says."""
    if b"content-length" in fields:
        await reader.readexactly(int(fields[b"content-length"]))
        return
    while True:
        line = await reader.readuntil(b"\r\n")
        assert _CHUNK_SIZE.fullmatch(line.removesuffix(b"\r\n")), line
        size = int(line, 16)
        assert (await reader.readexactly(size + 2)).endswith(b"\r\n"), "a chunk without its end"
        if size == 0:
            return
