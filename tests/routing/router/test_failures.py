"""Workers that refuse, hang and break off; clients that leave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable

import httpx
import openai
import pytest

from routing.discovery import keys
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router import engine as engines
from tests.routing.router.conftest import StartRouter
from tests.routing.router.fleet import Fleet, until

FINE = engines.answer(engines.chat_completion("fine"))


def refusing_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


async def chat(fleet: Fleet) -> httpx.Response:
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
        return await client.post("/v1/chat/completions", json=fleet.chat)


def code(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"]


async def test_a_refused_connection_is_tried_elsewhere(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        dead = [fleet.add(refusing_port()) for _ in range(2)]
        fleet.add(engine.port, load=5)

        assert (await chat(fleet)).status_code == 200

        await until(lambda: all(fleet.load(instance_id) == 0 for instance_id in dead))


async def test_it_tries_three_instances_and_no_more(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        for _ in range(3):
            fleet.add(refusing_port())
        fleet.add(engine.port, load=5)

        assert code(await chat(fleet)) == (502, "server_error", "upstream_error")
        assert engine.requests == []

        # And those that refused are spared for a while.
        assert (await chat(fleet)).status_code == 200


async def test_the_only_instance_refusing_is_a_bad_gateway(fleet: Fleet) -> None:
    instance_id = fleet.add(refusing_port())

    for _ in range(2):
        assert code(await chat(fleet)) == (502, "server_error", "upstream_error")

    await until(lambda: fleet.load(instance_id) == 0)


@pytest.mark.parametrize("status", [502, 503])
async def test_an_overloaded_worker_is_passed_over(fleet: Fleet, status: int) -> None:
    async with (
        engines.running(engines.answer({"error": "overloaded"}, status=status)) as overloaded,
        engines.running(FINE) as engine,
    ):
        fleet.add(overloaded.port)
        fleet.add(engine.port, load=5)

        assert (await chat(fleet)).status_code == 200
        assert (len(overloaded.requests), len(engine.requests)) == (1, 1)


async def test_when_all_are_overloaded_the_client_is_asked_to_come_back(fleet: Fleet) -> None:
    async with engines.running(engines.answer({}, status=503)) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet)

        assert code(answer) == (503, "service_unavailable_error", "no_ready_instance")
        assert "retry-after" in answer.headers


async def test_a_kept_connection_that_was_closed_is_replaced(fleet: Fleet) -> None:
    async with engines.running(engines.first(FINE, then=engines.first(FINE, then=FINE))) as engine:
        fleet.add(engine.port)
        assert (await chat(fleet)).status_code == 200

        seen = []

        async def close_the_second(
            engine: engines.Engine, request: engines.Request, writer: asyncio.StreamWriter
        ) -> bool:
            seen.append(request)
            return await (engines.close_unanswered if len(seen) == 1 else FINE)(engine, request, writer)

        engine.behaviour = close_the_second

        assert (await chat(fleet)).status_code == 200
        assert (len(seen), engine.connections_made) == (2, 2)


async def test_a_new_connection_closed_without_an_answer_is_tried_on_another(fleet: Fleet) -> None:
    async with engines.running(engines.close_unanswered) as engine, engines.running(FINE) as other:
        instance_id = fleet.add(engine.port)
        fleet.add(other.port, load=5)

        assert (await chat(fleet)).status_code == 200

        assert (len(engine.requests), len(other.requests)) == (1, 1)
        await until(lambda: fleet.load(instance_id) == 0)


async def test_a_request_of_which_two_workers_died_is_not_sent_to_a_third(fleet: Fleet) -> None:
    async with engines.running(engines.close_unanswered) as deadly, engines.running(FINE) as other:
        for _ in range(2):
            fleet.add(deadly.port)
        fleet.add(other.port, load=5)

        assert code(await chat(fleet)) == (502, "server_error", "upstream_error")

        assert (len(deadly.requests), len(other.requests)) == (2, 0)


async def test_a_worker_that_does_not_answer_times_out_and_is_not_asked_twice(fleet: Fleet) -> None:
    async with engines.running(engines.hang) as engine, engines.running(FINE) as other:
        instance_id = fleet.add(engine.port)
        fleet.add(other.port, load=5)

        assert code(await chat(fleet)) == (504, "server_error", "upstream_error")

        assert other.requests == []
        await until(lambda: fleet.load(instance_id) == 0 and engine.connections == 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"this is not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 50_000 + b"\r\n",
    ],
    ids=["garbage", "head only", "endless head"],
)
async def test_an_answer_that_is_no_answer_is_a_bad_gateway(fleet: Fleet, answer: bytes) -> None:
    async with engines.running(engines.raw(answer)) as engine:
        fleet.add(engine.port)

        assert code(await chat(fleet)) == (502, "server_error", "upstream_error")


async def test_an_answer_that_ends_with_the_connection_is_whole(fleet: Fleet) -> None:
    body = b'{"ok": true}'
    async with engines.running(engines.raw(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + body)) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet)

        assert (answer.status_code, answer.content) == (200, body)


async def test_an_answer_in_one_piece_that_breaks_off_is_never_shown_as_whole(fleet: Fleet) -> None:
    half = b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{"half":'
    async with engines.running(engines.raw(half)) as engine:
        instance_id = fleet.add(engine.port)

        with pytest.raises(httpx.RemoteProtocolError):
            await chat(fleet)

        await until(lambda: fleet.load(instance_id) == 0)


async def test_a_stream_that_breaks_off_ends_with_an_error_event(fleet: Fleet) -> None:
    async with (
        engines.running(engines.stream(engines.chat_chunk("Hel"), then="die")) as engine,
        engines.running(FINE) as other,
        fleet.client() as client,
    ):
        instance_id = fleet.add(engine.port)
        fleet.add(other.port, load=5)

        stream = await client.chat.completions.create(model=fleet.model, messages=[], stream=True)
        text = []
        with pytest.raises(openai.APIError) as caught:  # noqa: PT012 - the loop is the act
            async for chunk in stream:
                text.append(chunk.choices[0].delta.content)

        assert text == ["Hel"]
        assert caught.value.code == "upstream_error"
        assert other.requests == []
        await until(lambda: fleet.load(instance_id) == 0)


async def test_a_stream_that_breaks_off_has_no_done(fleet: Fleet) -> None:
    async with engines.running(engines.stream("one", then="die")) as engine:
        fleet.add(engine.port)

        answer = await chat(fleet)

        first, error, rest = answer.text.split("\n\n")
        assert first == "data: one"
        assert json.loads(error.removeprefix("data: "))["error"]["type"] == "server_error"
        assert rest == ""


@pytest.mark.parametrize(("options", "before"), [({}, ""), ({"include_usage": True}, "data: {no\n\n")])
async def test_an_error_event_stands_alone_though_the_stream_broke_within_an_event(
    fleet: Fleet, options: dict[str, bool], before: str
) -> None:
    half = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: {no\r\n"
    async with engines.running(engines.raw(half)) as engine:
        fleet.add(engine.port)

        async with httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=20) as client:
            body = {**fleet.chat, "stream": True, **({"stream_options": options} if options else {})}
            answer = await client.post("/v1/chat/completions", json=body)

        assert answer.text.startswith(before + 'data: {"error"')


async def test_a_stream_that_falls_silent_is_ended(fleet: Fleet) -> None:
    async with engines.running(engines.stream("one", then="wait")) as engine:
        instance_id = fleet.add(engine.port)

        answer = await chat(fleet)

        assert "upstream_error" in answer.text
        await until(lambda: fleet.load(instance_id) == 0 and engine.connections == 0)


async def test_a_worker_that_refuses_our_key_is_our_fault(fleet: Fleet) -> None:
    async with engines.running(engines.answer({"error": "Unauthorized"}, status=401)) as engine:
        fleet.add(engine.port)

        assert code(await chat(fleet)) == (502, "server_error", "upstream_error")


async def test_a_workers_key_that_cannot_be_opened_is_our_fault(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)
        fleet.store.hset(keys.instance(instance_id), "api_key", "not sealed")

        assert code(await chat(fleet)) == (502, "server_error", "upstream_error")
        assert engine.requests == []


async def test_nothing_is_sent_to_a_worker_that_fell_silent(fleet: Fleet) -> None:
    async with engines.running(FINE) as engine:
        instance_id = fleet.add(engine.port)
        assert (await chat(fleet)).status_code == 200

        stale = float(fleet.store.hget(keys.instance(instance_id), "last_heartbeat") or 0) - 16
        fleet.store.hset(keys.instance(instance_id), "last_heartbeat", stale)

        assert (await chat(fleet)).status_code == 503
        assert len(engine.requests) == 1


async def test_a_stream_goes_on_while_its_instance_drains(fleet: Fleet) -> None:
    behaviour = engines.stream(engines.chat_chunk("first"), then="wait")
    async with engines.running(behaviour) as engine, fleet.client() as client:
        instance_id = fleet.add(engine.port)
        stream = await client.chat.completions.create(model=fleet.model, messages=[], stream=True)
        await anext(aiter(stream))

        fleet.move(instance_id, "DRAINING")

        assert (await chat(fleet)).status_code == 503
        engine.go_on.set()
        assert [chunk async for chunk in stream] == []
        await until(lambda: fleet.load(instance_id) == 0)


async def test_a_worker_that_dies_is_passed_over_before_its_heartbeat_goes_stale(fleet: Fleet) -> None:
    async with engines.running(FINE) as dying, engines.running(FINE) as engine:
        dead = fleet.add(dying.port)
        assert (await chat(fleet)).status_code == 200
        fleet.add(engine.port)

        dying.die()

        assert [(await chat(fleet)).status_code for _ in range(10)] == [200] * 10
        await until(lambda: fleet.load(dead) == 0)


# --- clients that leave ---


async def leave(fleet: Fleet, *, after: bytes | None) -> None:
    """Send a request as a bare client, wait for these bytes of the answer (None: for nothing), and hang up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", fleet.router.port)
    body = json.dumps(fleet.chat).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {fleet.key}\r\n"
    head += "connection: close\r\n"
    try:
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        if after is not None:
            await reader.readuntil(after)
    finally:
        writer.close()


async def test_a_client_that_leaves_before_the_answer_ends_the_request(fleet: Fleet) -> None:
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)
        leaving = asyncio.create_task(leave(fleet, after=b"never"))
        await until(lambda: len(engine.requests) == 1)
        assert fleet.load(instance_id) == 1

        leaving.cancel()

        await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0, within=1)
        assert engine.left == 1


async def test_a_client_that_leaves_at_once_leaves_nothing(fleet: Fleet) -> None:
    async with engines.running(engines.hang) as engine:
        instance_id = fleet.add(engine.port)

        for _ in range(20):
            await leave(fleet, after=None)

        await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0, within=3)


async def test_a_client_that_leaves_within_a_stream_ends_it(fleet: Fleet) -> None:
    async with engines.running(engines.stream(engines.chat_chunk("first"), then="wait")) as engine:
        instance_id = fleet.add(engine.port)

        await leave(fleet, after=b"first")

        await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0, within=1)
        assert engine.left == 1


async def test_five_hundred_clients_leaving_at_once_leave_no_trace(
    fleet: Fleet, redis_server: RedisServer, start_router: StartRouter
) -> None:
    fleet.router = start_router(redis_server.url)  # with the usual, patient time-outs
    async with engines.running(engines.stream(engines.chat_chunk("first"), then="wait")) as engine:
        instance_id = fleet.add(engine.port)
        logged = fleet.router.log.stat().st_size

        await asyncio.gather(*(leave(fleet, after=b"first") for _ in range(500)))

        await until(lambda: engine.connections == 0 and fleet.load(instance_id) == 0)
        assert fleet.router.log.stat().st_size - logged < 10_000
        engine.behaviour = FINE
        assert (await chat(fleet)).status_code == 200


async def test_a_client_that_does_not_read_holds_the_worker_back_and_loses_nothing(fleet: Fleet) -> None:
    events = [str(n) * 500_000 for n in range(10, 99)]
    async with engines.running(engines.stream(*events)) as engine:
        fleet.add(engine.port)
        async with (
            httpx.AsyncClient(base_url=fleet.router.url, headers=fleet.headers, timeout=30) as client,
            client.stream("POST", "/v1/chat/completions", json=fleet.chat) as answer,
        ):
            await until_still(lambda: engine.events_sent)
            assert engine.events_sent < len(events) / 2

            received = [chunk async for chunk in answer.aiter_bytes()]

    assert b"".join(received).decode() == "".join(f"data: {event}\n\n" for event in events)


async def until_still(count: Callable[[], int]) -> None:
    """Until it has not changed for ten looks."""
    seen = [-1] * 10
    async with asyncio.timeout(10):
        while set(seen) != {count()}:
            seen = [*seen[1:], count()]
            await asyncio.sleep(0.05)
