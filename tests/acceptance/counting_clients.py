"""Clients that keep a book of what they were served, while things are killed around them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.routing.router.hostile import answers
from tests.routing.router.hostile.answers import Answer, Malformed

AT_ONCE = 32
_PAUSE = 0.05  # seconds, before asking again where nobody listens or nothing is ready
_QUESTION = [{"role": "user", "content": "Count, please"}]


@dataclass(frozen=True)
class Served:
    """An answer that came whole. Instants are of `time.monotonic`."""

    ended_at: float
    output_tokens: int


@dataclass
class Book:
    sent: int = 0
    served: list[Served] = field(default_factory=list)
    refused: int = 0  # an answer that says that there is none: no engine had to do with it
    broken: list[float] = field(default_factory=list)  # when: it may have been at its engine, or not
    strange: list[str] = field(default_factory=list)  # what should not be
    question_tokens: set[int] = field(default_factory=set)  # as told; the same for every request

    @property
    def output_tokens(self) -> int:
        return sum(each.output_tokens for each in self.served)


class Clients:
    """They send `requests` requests, AT_ONCE at a time, over connections that are kept, as far as they are let."""

    def __init__(self, router_url: str, *, key: str, model: str, requests: int) -> None:
        self._port = urlsplit(router_url).port or 80
        self._key = key
        self._model = model
        self._requests = requests
        self._allowed = 0
        self._more = asyncio.Event()
        self.book = Book()

    def let(self, share: float) -> None:
        """Let them send this share of their requests, then wait."""
        self._allowed = int(share * self._requests)
        self._more.set()

    async def work(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._ask_again_and_again())

    async def until_sent(self, share: float) -> None:
        while self.book.sent < share * self._requests:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)

    async def _ask_again_and_again(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self.book.sent < self._requests:
            if self.book.sent >= self._allowed:
                self._more.clear()
                await self._more.wait()
            elif connection is None or _is_lost(connection[0]):
                connection = await self._connect()
            elif not await self._ask(*connection):
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            await asyncio.sleep(_PAUSE)  # a router that is being started again
            return None

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Returns whether the connection can be used again."""
        self.book.sent += 1
        ask, read = _KINDS[self.book.sent % len(_KINDS)]
        try:
            writer.write(self._request(ask(1 + self.book.sent % 4)))
            answer = await answers.read(reader)
        except (OSError, Malformed):
            answer = None
        if answer is None:
            self.book.broken.append(time.monotonic())
            return False
        if answer.status == 200:
            self._enter(answer, read)
        elif answer.status == 503 and b"retry-after" in answer.headers:
            self.book.refused += 1
            await asyncio.sleep(_PAUSE)
        else:
            self.book.strange.append(f"{answer.status}: {answer.body[:300]!r}")
        return answer.headers.get(b"connection") != b"close"

    def _enter(self, answer: Answer, read: Callable[[bytes, Book], int]) -> None:
        try:
            output_tokens = read(answer.body, self.book)
        except (ValueError, LookupError):
            self.book.strange.append(f"200: {answer.body[-300:]!r}")
            return
        self.book.served.append(Served(time.monotonic(), output_tokens))

    def _request(self, question: dict[str, object]) -> bytes:
        body = json.dumps({"model": self._model, "messages": _QUESTION, "temperature": 0, **question}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._key}\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _is_lost(reader: asyncio.StreamReader) -> bool:
    """Whether the router has gone while nothing was asked of it."""
    return reader.at_eof() or reader.exception() is not None


# --- kinds of requests: what is asked, and how many tokens the answer has ---


def _whole(tokens: int) -> dict[str, object]:
    return {"max_tokens": tokens}


def _stream(tokens: int) -> dict[str, object]:
    return {"max_tokens": tokens, "stream": True}


def _stream_with_usage(tokens: int) -> dict[str, object]:
    return {"max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True}}


def _told_in_whole(body: bytes, book: Book) -> int:
    return _told(json.loads(body)["usage"], book)


def _told_at_the_end(body: bytes, book: Book) -> int:
    return _told(_events(body)[-1]["usage"], book)


def _told(usage: dict[str, int], book: Book) -> int:
    book.question_tokens.add(usage["prompt_tokens"])
    return usage["completion_tokens"]


def _pieces(body: bytes, book: Book) -> int:
    """Who did not ask for the usage is not shown it, and counts the pieces."""
    events = _events(body)
    if any(event.get("usage") for event in events):
        raise ValueError("usage that he did not ask for")
    return sum(bool(choice["delta"].get("content")) for event in events for choice in event["choices"])


def _events(body: bytes) -> list[Any]:
    *events, done, rest = body.decode().split("\n\n")
    if (done, rest) != ("data: [DONE]", ""):
        raise ValueError("a stream without its end")
    return [json.loads(event.removeprefix("data: ")) for event in events]


_KINDS = ((_whole, _told_in_whole), (_stream, _pieces), (_stream_with_usage, _told_at_the_end))
