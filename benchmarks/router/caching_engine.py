"""An engine with a prefix cache, as far as a router can tell: it remembers the beginnings of what it has seen, in
blocks, forgets what was not used for longest when it is full, takes time for what it does not find, and says in its
answer's usage how much it has found."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

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
        self.port = 0
        self._cache = PrefixCache(room)
        self._open: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                body = await _read_request(reader)
                answer = json.dumps(await self._answer(json.loads(body)) if body else {}).encode()
                head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
                writer.write(head.encode() + answer)
                await writer.drain()
        writer.close()
        del self._open[asyncio.current_task()]

    async def hang_up(self) -> None:
        serving = [task for task in self._open if task is not None]
        for writer in self._open.values():
            writer.transport.abort()
        await asyncio.gather(*serving)

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


@asynccontextmanager
async def running(count: int, *, room: int) -> AsyncIterator[Sequence[CachingEngine]]:
    engines = [CachingEngine(room) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for engine in engines:
            server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
            stack.push_async_callback(engine.hang_up)
            stack.callback(server.close)
            engine.port = server.sockets[0].getsockname()[1]
        yield engines


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


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, named, rest = head.partition(b"content-length:")
    return await reader.readexactly(int(rest.partition(b"\r\n")[0])) if named else b""
