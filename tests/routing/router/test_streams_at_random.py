"""Streams of any events, cut anywhere, broken off anywhere: what the client gets is what the engine sent.

STREAMS says how many, STREAMS_SEED which; a failure names its number, and STREAM=number tells it alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.conftest import StartRouter
from tests.routing.router.engine import Behaviour, Engine
from tests.routing.router.fleet import Fleet, until

SEED = int(os.environ.get("STREAMS_SEED", "1"))
NUMBERS = [int(os.environ["STREAM"])] if "STREAM" in os.environ else range(int(os.environ.get("STREAMS", "400")))
AT_ONCE = 8

WORDS = ("a", "é", "\u2028", "\U0001f4a9", '"usage"', '"usage":{"prompt_tokens":1}', "data: [DONE]", "\n\n", "\\", "")
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


@dataclass(frozen=True)
class Story:
    """What the engine sends in one stream, and what the client is to get of it."""

    asks_usage: bool
    events: tuple[bytes, ...]
    usage: bytes  # the event that brings the usage and nothing else; b"" = none comes
    end: bytes
    pieces: tuple[bytes, ...]  # as they go over the wire
    breaks_off: bool

    @property
    def shown(self) -> bytes:
        return b"".join(self.events) + (self.usage if self.asks_usage else b"") + self.end


@pytest.fixture
def fleet(redis_server: RedisServer, start_router: StartRouter) -> Iterator[Fleet]:
    with redis_server.client() as store:
        store.flushall()
        yield Fleet(router=start_router(redis_server.url), store=store)


async def test_a_client_gets_what_the_engine_sent_and_no_more(fleet: Fleet) -> None:
    stories = {number: tell(random.Random(f"{SEED} {number}")) for number in NUMBERS}
    async with engines.running(telling(stories)) as engine:
        instance_id = fleet.add(engine.port)
        waiting = iter(stories.items())
        async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:

            async def listen() -> None:
                for number, story in waiting:
                    answer = await client.post("/v1/chat/completions", json=question(fleet, number, story))
                    check(number, story, answer.content)

            await asyncio.gather(*(listen() for _ in range(AT_ONCE)))
        await until(lambda: fleet.load(instance_id) == 0)
    whole = [story for story in stories.values() if not story.breaks_off]
    await until(lambda: len(fleet.usage()) == len(stories))
    told = [usage for usage in fleet.usage() if not usage.estimated]
    assert len(told) >= sum(bool(story.usage) for story in whole)
    assert {(usage.input_tokens, usage.output_tokens) for usage in told} <= {(3, 4)}
    assert "Traceback" not in fleet.router.log.read_text()


def question(fleet: Fleet, number: int, story: Story) -> dict[str, object]:
    options = {"stream_options": {"include_usage": True}} if story.asks_usage else {}
    return {**fleet.chat, "stream": True, "user": str(number), **options}


def check(number: int, story: Story, received: bytes) -> None:
    if not story.breaks_off:
        assert received == story.shown, f"STREAM={number} STREAMS_SEED={SEED}"
        return
    before, mark, error = received.rpartition(b'data: {"error"')
    assert mark, f"STREAM={number} STREAMS_SEED={SEED}: no error event, but {received[-300:]!r}"
    assert json.loads(b'{"error"' + error)["error"]["code"] == "upstream_error"
    assert story.shown.startswith(before.rstrip(b"\r\n")), f"STREAM={number} STREAMS_SEED={SEED}"
    assert before == b"" or before.endswith((b"\n\n", b"\n\r\n")), f"STREAM={number} STREAMS_SEED={SEED}"


def telling(stories: dict[int, Story]) -> Behaviour:
    async def behave(engine: Engine, request: engines.Request, writer: asyncio.StreamWriter) -> bool:
        story = stories[int(json.loads(request.body)["user"])]
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for piece in story.pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(0)
        if story.breaks_off:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    return behave


# --- making stories up ---


def tell(draw: random.Random) -> Story:
    line_end = draw.choice([b"\n", b"\n", b"\r\n"])
    asks_usage = draw.random() < 0.5
    events = tuple(_event(draw, line_end) for _ in range(draw.randint(0, 12)))
    usage = _data({"choices": [], "usage": USAGE}, line_end) if draw.random() < 0.8 else b""
    end = b"data: [DONE]" + line_end * 2
    sent = b"".join(events) + usage + end
    breaks_off = draw.random() < 0.25
    if breaks_off:
        sent = sent[: draw.randrange(len(b"".join(events)) + 1)]
    return Story(asks_usage, events, usage, end, tuple(_cut(draw, sent)), breaks_off)


def _event(draw: random.Random, line_end: bytes) -> bytes:
    text = "".join(draw.choices(WORDS, k=draw.randint(0, 5)))
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    match draw.randrange(8):
        case 0:
            return b": keep-alive" + line_end * 2
        case 1:
            return b"event: message" + line_end + _data({"choices": [choice]}, line_end)
        case 2:
            return _data({"choices": [choice], "usage": None}, line_end)
        case 3:
            return _data({"choices": [choice], "usage": USAGE}, line_end)
        case 4:
            call = {"function": {"arguments": json.dumps({"usage": {"prompt_tokens": 99}})}}
            return _data({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}, line_end)
        case 5:
            return _data({"choices": [{"index": 0, "delta": {"content": "x" * draw.choice([10, 70_000])}}]}, line_end)
        case _:
            return _data({"choices": [choice]}, line_end, ascii_only=draw.random() < 0.5)


def _data(event: dict[str, object], line_end: bytes, *, ascii_only: bool = False) -> bytes:
    return b"data: " + json.dumps(event, ensure_ascii=ascii_only).encode() + line_end * 2


def _cut(draw: random.Random, data: bytes) -> Iterator[bytes]:
    """Anywhere: between events, within a line end, within a character."""
    most = draw.choice([1, 3, 50, 5_000, 200_000]) if len(data) < 5_000 else draw.choice([1_000, 20_000, 200_000])
    while data:
        size = draw.randint(1, most)
        yield data[:size]
        data = data[size:]
