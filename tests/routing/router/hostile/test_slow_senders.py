"""Clients that send a byte now and then, or nothing, to hold on to what they have got: they are sent away in time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psutil
import pytest

from tests.routing.router.bare_client import BareClient, chat_request, connect
from tests.routing.router.fleet import Fleet, until
from tests.routing.router.hostile import answers
from tests.routing.router.hostile.answers import Answer, check_envelope
from tests.routing.router.hostile.witness import Witness

HEAD = b"POST %b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n"
CHAT, FORM = b"/v1/chat/completions", b"/v1/audio/transcriptions"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
MULTIPART = b"content-type: multipart/form-data; boundary=b\r\ncontent-length: 1000000\r\n\r\n--b\r\n"
FILE, MODEL = (
    b"content-disposition: form-data; name=file\r\n\r\n",
    b"content-disposition: form-data; name=model\r\n\r\n",
)
SLOWLY = {
    "a head without end": (CHAT, b"", b"x: y\r\n"),
    "a header without end": (CHAT, b"x: ", b"y"),
    "a body without end": (CHAT, b"content-length: 1000\r\n\r\n{", b" "),
    "chunks without end": (CHAT, CHUNKED, b"1\r\n \r\n"),
    "a chunk without end": (CHAT, CHUNKED + b"fff\r\n{", b" "),
    "a chunk's size without end": (CHAT, CHUNKED, b"0"),
    "a chunk extension without end": (CHAT, CHUNKED + b"5;", b"x"),
    "trailers without end": (CHAT, CHUNKED + b"2\r\n{}\r\n0\r\n", b"x: y\r\n"),
    "a form without end": (FORM, MULTIPART + FILE, b"x"),
    "a form without end, its model named": (FORM, MULTIPART + MODEL + b"{model}\r\n--b\r\n" + FILE, b"x"),
}


@pytest.mark.parametrize(("path", "beginning", "drop"), SLOWLY.values(), ids=SLOWLY)
async def test_a_slow_sender_is_told_that_it_took_too_long(
    fleet: Fleet, engine: Witness, path: bytes, beginning: bytes, drop: bytes
) -> None:
    clients = [await connect(fleet.router.port) for _ in range(20)]
    request = HEAD % (path, fleet.key.encode()) + beginning.replace(b"{model}", fleet.model.encode())
    dripping = [asyncio.create_task(drip(client, request, drop)) for client in clients]

    async with asyncio.timeout(10):
        told = await asyncio.gather(*(answers.read(client.reader) for client in clients))

    for answer in told:
        check_is_late(answer)
    for client in clients:
        client.hang_up()
    await asyncio.gather(*dripping)
    await until(lambda: clients_connected(fleet) == fleet.load(*fleet.endpoints) == 0)
    assert (engine.seen, engine.offences) == ({}, [])


async def test_who_says_nothing_at_all_is_sent_away(fleet: Fleet) -> None:
    clients = [await connect(fleet.router.port) for _ in range(20)]

    async with asyncio.timeout(10):
        assert await asyncio.gather(*(client.read_rest() for client in clients)) == [b""] * 20

    for client in clients:
        client.hang_up()


async def test_slow_senders_keep_nobody_waiting(fleet: Fleet, engine: Witness) -> None:
    clients = [await connect(fleet.router.port) for _ in range(200)]
    for client in clients:
        await client.send(HEAD % (CHAT, fleet.key.encode()) + b"content-length: 1000\r\n\r\n{")

    async with asyncio.timeout(5):
        good = await connect(fleet.router.port)
        await good.send(chat_request(fleet))
        answer = await answers.read(good.reader)

    assert answer is not None
    assert answer.status == 200
    for client in (*clients, good):
        client.hang_up()


async def drip(client: BareClient, beginning: bytes, drop: bytes) -> None:
    """Until the router has had enough."""
    with suppress(ConnectionError):
        await client.send(beginning)
        while not client.writer.is_closing():
            await client.send(drop)
            await asyncio.sleep(0.02)  # slow is what it is about


def check_is_late(answer: Answer | None) -> None:
    assert answer is not None, "it hung up without a word"
    assert answer.status == 408, answer
    check_envelope(answer, in_anthropics_words=False)


def clients_connected(fleet: Fleet) -> int:
    connections = psutil.Process(fleet.router.process.pid).net_connections()
    return sum(each.laddr.port == fleet.router.port and bool(each.raddr) for each in connections)
