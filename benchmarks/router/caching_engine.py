"""An engine with a prefix cache, as far as a router can tell: it remembers the beginnings of what it has seen, in
blocks, forgets what was not used for longest when it is full, takes time for what it does not find, and says in its
answer's usage how much it has found."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

_CHAT = "/v1/chat/completions"
_BLOCK = 64  # characters: 16 tokens, as vLLM's
_TOKEN = 4  # characters
_PREFILL = 20e-6  # seconds a token that was not found: 50,000 tokens a second
_LEAST = 0.002  # seconds of an answer


class PrefixCache:
    """`room`: blocks."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def found(self, text: str) -> int:
        """How many characters of the beginning are known."""
        known = 0
        for block in _blocks(text):
            if block not in self._blocks:
                break
            known += _BLOCK
        return known

    def remember(self, text: str) -> None:
        for block in _blocks(text):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)


class CachingEngine:
    def __init__(self, room: int) -> None:
        self._cache = PrefixCache(room)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def start(self) -> int:
        """Its port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        serving = [task for task in self._open if task is not None]
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path, body = await _read_request(reader)
                if path == _CHAT:
                    writer.write(_response("200 OK", await self._answer(json.loads(body))))
                else:
                    writer.write(_response("404 Not Found" if body else "200 OK", {}))
                await writer.drain()
        writer.close()
        del self._open[asyncio.current_task()]

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        prompt = rendered(request["messages"])
        found = self._cache.found(prompt)
        self._cache.remember(prompt)
        await asyncio.sleep(_LEAST + (len(prompt) - found) / _TOKEN * _PREFILL)
        message = {"role": "assistant", "content": answer_to(prompt)}
        self._cache.remember(rendered([*request["messages"], message]))
        tokens = len(prompt) // _TOKEN
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1_772_366_400,
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": tokens,
                "completion_tokens": 100,
                "total_tokens": tokens + 100,
                "prompt_tokens_details": {"cached_tokens": found // _TOKEN},
            },
        }


@contextmanager
def running(count: int, *, room: int) -> Iterator[Sequence[int]]:
    """So many engines, in a thread while the block runs; their ports."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    engines = [CachingEngine(room) for _ in range(count)]
    try:
        yield [asyncio.run_coroutine_threadsafe(engine.start(), loop).result() for engine in engines]
    finally:
        for engine in engines:
            asyncio.run_coroutine_threadsafe(engine.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def rendered(messages: Sequence[dict[str, str]]) -> str:
    """As a chat template lays it out: what was said before is the beginning of what is said now."""
    return "".join(f"<{message['role']}>{message['content']}</>" for message in messages)


def answer_to(prompt: str) -> str:
    """The same to the same, as at temperature 0; unlike any other."""
    return f"To {hash(prompt):x}, that is to say: " + "a word and another. " * 20


def _blocks(text: str) -> list[int]:
    """Each stands for all the text up to its end, as in an engine's cache."""
    before, blocks = 0, []
    for at in range(0, len(text) - _BLOCK + 1, _BLOCK):
        before = hash((before, text[at : at + _BLOCK]))
        blocks.append(before)
    return blocks


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Path and body. Raises ConnectionError: some routers try HTTP/2 first."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" http/1.1\r\n" not in head:
        raise ConnectionError("this is not HTTP/1.1")
    _, named, rest = head.partition(b"content-length:")
    body = await reader.readexactly(int(rest.partition(b"\r\n")[0])) if named else b""
    return head.split(b" ")[1].decode(), body


def _response(status: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data
