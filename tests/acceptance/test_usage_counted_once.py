"""What clients were served is what Postgres has counted, whatever was killed meanwhile.

USAGE_REQUESTS says how many requests; for a long run: `make usage-proof REQUESTS=100000`.

The bound. A router that is killed takes with it what it had not handed to Redis: the requests in flight, and those that
had ended within FLUSH_EVERY before it. Nothing else is lost, whoever is killed, and nothing is counted twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
import redis

from inventiv.embedded import defaults
from routing.discovery import keys
from routing.router.clients.usage import FLUSH_EVERY
from tests.acceptance.counting_clients import AT_ONCE, Book, Clients
from tests.acceptance.running_stack import MODEL, RunningStack, until

REQUESTS = int(os.environ.get("USAGE_REQUESTS") or 0)
ROUNDS = max(1, REQUESTS // 10_000)
KILLED = ("router", "orchestrator", "redis", "postgres")
# Two of its claims (how many connections break, that no answer is strange) do not hold in each run yet; the sums have.
pytestmark = pytest.mark.skipif(not REQUESTS, reason="USAGE_REQUESTS names no number: make usage-proof")

FAST = {"ttft_seconds": "0.02", "tokens_per_second": "1000", "boot_seconds": "0.1"}


@pytest.fixture
def fast_instance(stack: RunningStack) -> Iterator[None]:
    for name, value in FAST.items():
        stack.chaos(name, value)
    instance_id = stack.deploy()
    stack.calm()
    stack.until_status(instance_id, "READY")
    stack.until_answering()
    yield
    stack.terminate(instance_id)
    stack.until_status(instance_id, "TERMINATED")


@dataclass(frozen=True)
class Sums:
    requests: int
    input_tokens: int
    output_tokens: int


@pytest.mark.usefixtures("fast_instance")
async def test_what_was_served_was_counted_once_whatever_was_killed(stack: RunningStack) -> None:
    key_id, key = new_key(stack)
    clients = Clients(stack.router_url, key=key, model=MODEL, requests=REQUESTS)
    killing = asyncio.create_task(kill_all_of_them(stack, clients))

    await clients.work()
    routers_killed_at = await killing
    book = clients.book
    await asyncio.to_thread(until_all_is_counted, stack)

    assert book.strange == []
    assert len(book.broken) <= AT_ONCE * len(routers_killed_at)  # nobody else's death breaks a connection
    with database(stack) as postgres:
        counted = sums_of_rows(postgres, key_id)
        assert sums_of_hours(postgres, key_id) == counted
        assert postgres.execute("SELECT count(*) FROM usage_rejects").fetchone() == (0,)
    lost, bound = len(book.served) - counted.requests, most_lost(book, routers_killed_at)
    print(
        f"{book.sent} sent: {len(book.served)} served, {book.refused} refused, {len(book.broken)} broken off;"
        f" {counted.requests} counted, {lost} not, of {bound} that {len(routers_killed_at)} killed routers may cost"
    )
    assert -len(book.broken) <= lost <= bound
    (question_tokens,) = book.question_tokens
    assert counted.input_tokens == question_tokens * counted.requests
    most_tokens = max(served.output_tokens for served in book.served)
    assert -len(book.broken) * most_tokens <= book.output_tokens - counted.output_tokens <= bound * most_tokens


async def kill_all_of_them(stack: RunningStack, clients: Clients) -> list[float]:
    """One after the other, each at a random moment of its own part of the work. Returns when routers were killed."""
    moments = random.Random(20261125)
    victims = [victim for _ in range(ROUNDS) for victim in moments.sample(KILLED, len(KILLED))]
    routers_killed_at = []
    for number, victim in enumerate(victims):
        clients.let((number + 1) / len(victims))
        await clients.until_sent((number + moments.uniform(0.1, 0.6)) / len(victims))
        before = stack.pid(victim)
        if victim == "router":
            routers_killed_at.append(time.monotonic())
        stack.kill_group(victim)
        await asyncio.to_thread(stack.until_up, victim, other_than=before)
    return routers_killed_at


def most_lost(book: Book, routers_killed_at: list[float]) -> int:
    ended = sum(0 <= at - served.ended_at <= FLUSH_EVERY for at in routers_killed_at for served in book.served)
    return ended + len(book.broken)


# --- the stack's side ---


def new_key(stack: RunningStack) -> tuple[str, str]:
    with stack.api() as api:
        answer = api.post("/api-keys", json={"name": "counted", "scopes": ["inference"]})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["key"]


def until_all_is_counted(stack: RunningStack) -> None:
    """The router hands over what it has, as it does when it is stopped, and the orchestrator takes all of it."""
    stack.supervisor.stop_program("processes:router")
    try:
        with redis.Redis.from_url(defaults.redis_url(stack.home)) as client:
            until(lambda: client.xlen(keys.USAGE) == 0, within=120, what="the stream of usage is empty")
    finally:
        stack.supervisor.start_program("processes:router")
    stack.until_up("router")
    stack.until_answering()


@contextmanager
def database(stack: RunningStack) -> Iterator[psycopg.Connection[tuple[int, ...]]]:
    with psycopg.connect(defaults.database_url(stack.home)) as connection:
        yield connection


def sums_of_rows(postgres: psycopg.Connection[tuple[int, ...]], key_id: str) -> Sums:
    query = "SELECT count(*), sum(input_tokens), sum(output_tokens) FROM usage_records"
    return _sums(postgres, f"{query} WHERE key_id = %s AND status = 200 AND NOT estimated", key_id)


def sums_of_hours(postgres: psycopg.Connection[tuple[int, ...]], key_id: str) -> Sums:
    query = "SELECT sum(requests - estimated), sum(input_tokens), sum(output_tokens) FROM usage_hours"
    return _sums(postgres, f"{query} WHERE key_id = %s AND status = 200", key_id)


def _sums(postgres: psycopg.Connection[tuple[int, ...]], query: str, key_id: str) -> Sums:
    row = postgres.execute(query.encode(), [key_id]).fetchone()
    assert row is not None
    return Sums(*map(int, row))
