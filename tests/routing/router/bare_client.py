"""A client as a bare socket: a test says which bytes it sends, how far it waits for the answer, and how it leaves."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.routing.router.fleet import Fleet

_NO_LINGER = struct.pack("ii", 1, 0)


@dataclass
class BareClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read_until(self, marker: bytes) -> bytes:
        return await self.reader.readuntil(marker)

    async def read_rest(self) -> bytes:
        """All until the router hangs up; what came so far, if it does so rudely."""
        data = bytearray()
        try:
            while chunk := await self.reader.read(65536):
                data += chunk
        except ConnectionError:
            pass
        return bytes(data)

    def hang_up(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Leave as a client that crashed: with RST in place of FIN."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.writer.transport.abort()


async def connect(port: int) -> BareClient:
    return BareClient(*await asyncio.open_connection("127.0.0.1", port))


@asynccontextmanager
async def crowd(port: int, size: int) -> AsyncIterator[list[BareClient]]:
    clients = [await connect(port) for _ in range(size)]
    try:
        yield clients
    finally:
        for client in clients:
            client.hang_up()


def chat_request(fleet: Fleet, *, stream: bool = False, headers: str = "") -> bytes:
    body = json.dumps({**fleet.chat, "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {fleet.key}\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
