"""Ten thousand malformed and hostile requests: whatever is sent, the router answers well or hangs up, and no engine
gets what it should not.

HOSTILE_REQUESTS says how many (in all), HOSTILE_SEED which."""

from __future__ import annotations

import asyncio
import os

import httpx
import psutil
import pytest

from tests.routing.router.bare_client import BareClient, connect
from tests.routing.router.fleet import Fleet, until
from tests.routing.router.hostile import answers, bodies, framing, heads
from tests.routing.router.hostile.answers import Answer, Malformed, check_envelope
from tests.routing.router.hostile.attacks import Attack, Generator, Ground, corpus
from tests.routing.router.hostile.witness import Witness

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "10000"))
SEED = int(os.environ.get("HOSTILE_SEED", "1"))
GENERATORS = (*framing.GENERATORS, *heads.GENERATORS, *bodies.GENERATORS)
COUNT = -(-REQUESTS // len(GENERATORS))
AT_ONCE = 16
PATIENCE = 10  # seconds: who is not answered within them hangs


@pytest.mark.parametrize("generator", GENERATORS, ids=[generator.__name__ for generator in GENERATORS])
async def test_hostile_requests(fleet: Fleet, engine: Witness, generator: Generator) -> None:
    logged = log_size(fleet)
    attacks = list(corpus(generator, ground=Ground(fleet.key, fleet.model), count=COUNT, seed=SEED))

    problems = await strike_with_all(fleet, attacks)

    assert not engine.offences, first_of(engine.offences)
    assert not problems, first_of(problems)
    may_reach = {attack.request_id for attack in attacks if attack.may_reach}
    assert {request_id for request_id in engine.seen if request_id not in may_reach} == set()
    assert [request_id for request_id, times in engine.seen.items() if times > 1] == []
    await until(lambda: clients_connected(fleet) == fleet.load(*fleet.endpoints) == 0)
    assert "Traceback" not in fleet.router.log.read_text()[logged:]
    await serves_on(fleet, engine)


async def strike_with_all(fleet: Fleet, attacks: list[Attack]) -> list[str]:
    """What went wrong."""
    waiting, problems = iter(attacks), []

    async def strike_in_turn() -> None:
        for attack in waiting:
            try:
                async with asyncio.timeout(PATIENCE):
                    await strike(fleet, attack)
            except (Malformed, AssertionError, TimeoutError) as problem:
                problems.append(f"{type(problem).__name__} {problem}: seed {SEED}, {attack!r}")

    await asyncio.gather(*(strike_in_turn() for _ in range(AT_ONCE)))
    return problems


async def strike(fleet: Fleet, attack: Attack) -> None:
    client = await connect(fleet.router.port)
    try:
        behind = sentinel(fleet, attack)
        if attack.incomplete:
            received = await exchange(client, attack.data, then_leave=True)
        elif attack.later:
            received = await exchange(client, attack.data, later=attack.later + behind)
        else:
            received = await exchange(client, attack.data + behind)
    finally:
        client.hang_up()
    check(attack, received)


def sentinel(fleet: Fleet, attack: Attack) -> bytes:
    """Sent behind an attack. If it is answered, the connection is still in step."""
    head = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {key}\r\n"
    return f"{head}x-request-id: sentinel-{attack.request_id}\r\n\r\n".format(key=fleet.key).encode()


async def exchange(client: BareClient, data: bytes, *, later: bytes = b"", then_leave: bool = False) -> list[Answer]:
    """All answers, until the router hangs up. `later`: sent once there is one."""
    received: list[Answer] = []
    to_head = data.startswith(b"HEAD ")
    sending = asyncio.create_task(send(client, data, then_leave=then_leave))
    try:
        while (answer := await answers.read(client.reader, to_head=to_head and not received)) is not None:
            received.append(answer)
            if later and len(received) == 1:
                await send(client, later)
    except ConnectionError:
        assert received, "it hung up without a word"
    await sending
    return received


async def send(client: BareClient, data: bytes, *, then_leave: bool = False) -> None:
    try:
        await client.send(data)
        if then_leave:
            client.writer.write_eof()
    except ConnectionError:
        pass  # the router has heard enough; what it said is there to be read


def check(attack: Attack, received: list[Answer]) -> None:
    if attack.incomplete:
        return
    assert received, "no answer"
    first, *others = received
    assert first.status in attack.statuses, f"answered with {first.status}: {first.body[:300]!r}"
    for answer in received:
        assert not answer.request_id.startswith("smuggled"), f"it answered what was smuggled: {answer}"
        assert answer.status < 500 or answer.status == 505, f"{answer.status}: {answer.body[:300]!r}"
        if answer.status >= 400 and answer.body:
            check_envelope(answer, in_anthropics_words=b" /v1/messages " in attack.data[:40])
    if others and others[-1].status == 200:
        assert others[-1].request_id == f"sentinel-{attack.request_id}", "out of step"


async def serves_on(fleet: Fleet, engine: Witness) -> None:
    headers = fleet.headers | {"x-request-id": "good"}
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=headers, timeout=20) as client:
        answer = await client.post("/v1/chat/completions", json=fleet.chat)
    assert (answer.status_code, engine.seen["good"]) == (200, 1)


def first_of(problems: list[str]) -> str:
    return f"{len(problems)} of {COUNT}, as:\n" + "\n".join(problems[:5])


def log_size(fleet: Fleet) -> int:
    return len(fleet.router.log.read_text())


def clients_connected(fleet: Fleet) -> int:
    connections = psutil.Process(fleet.router.process.pid).net_connections()
    return sum(each.laddr.port == fleet.router.port and bool(each.raddr) for each in connections)
