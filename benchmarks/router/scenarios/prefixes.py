"""How much of their prompts conversations find in an engine's prefix cache, by the way in which they are routed.

Every turn of a conversation says again all that was said before. Who brings it to the engine that had the turn before
saves the work of reading that; eight engines that each hold an eighth of the conversations hold them all, whereas
eight that all see everything each forget most of it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import httpx

from benchmarks.router import chats
from benchmarks.router.bars import OURS
from benchmarks.router.bench import Bench, Column, Figures, Outcome, Scenario
from benchmarks.router.caching_engine import PrefixCache, rendered, running
from benchmarks.router.inventiv import WELL_FOR_A_DAY, Index, Inventiv, endpoint, index, router, say_ready
from benchmarks.router.routers import Peer
from routing.discovery.records import Endpoint, Routing

ENGINES = 8
_MORE = 2  # that come while others go
_TURNS = 6
_AT_ONCE = 24  # requests in flight
_ROOM = 16  # blocks of an engine's cache for each conversation: all engines together have more than twice what all need
_SYSTEM_PROMPTS = 4
_SEED = 4711


@dataclass(slots=True)
class _Tally:
    """Tokens of the prompts: all, those that the engines found, and those that had been said before to any of them."""

    prompt: int = 0
    found: int = 0
    possible: int = 0
    requests: int = 0
    errors: int = 0
    said: PrefixCache = field(default_factory=lambda: PrefixCache(10**9))

    @property
    def figures(self) -> Figures:
        return {
            "hit_rate": self.found / self.prompt,
            "possible": self.possible / self.prompt,
            "of_possible": self.found / self.possible,
            "requests": float(self.requests),
            "errors": float(self.errors),
        }


def run(bench: Bench) -> Outcome:
    outcome: dict[str, list[Figures]] = {}
    for changes in (False, True):
        for routing in (Routing.LEAST_LOAD, Routing.PREFIX):
            name = f"{OURS}, {routing}{', instances come and go' * changes}"
            bench.tell(name)
            outcome[name] = [_measure_ours(bench, routing, changes=changes)]
    for peer in _cache_aware(bench):
        name = f"{peer.name}, {peer.policy}"
        bench.tell(name)
        outcome[name] = [_measure_peer(bench, peer)]
    return outcome


def _measure_ours(bench: Bench, routing: Routing, *, changes: bool) -> Figures:
    conversations = _begun(bench.effort.conversations)
    with running(ENGINES + _MORE, room=_room(bench)) as ports:
        fleet = [endpoint(number, port=port) for number, port in enumerate(ports)]
        with (
            index(fleet[:ENGINES], routing=routing) as built,
            router(bench.home_of(Inventiv()), built, WELL_FOR_A_DAY) as process,
        ):
            turns = len(conversations) * _TURNS
            coming_and_going = _Changes(built, process.port, fleet, turns=turns) if changes else None
            return asyncio.run(_converse(conversations, process.port, built.key, coming_and_going)).figures


def _measure_peer(bench: Bench, peer: Peer) -> Figures:
    with (
        running(ENGINES, room=_room(bench)) as ports,
        peer.running(ports, bench.home_of(peer)) as up,
    ):
        return asyncio.run(_converse(_begun(bench.effort.conversations), up.port, up.key)).figures


def _cache_aware(bench: Bench) -> list[Peer]:
    known = [each for each in bench.routers if isinstance(each, Peer) and each.cache_policy]
    return [replace(each, policy=each.cache_policy) for each in known]


def _room(bench: Bench) -> int:
    return _ROOM * bench.effort.conversations


class _Changes:
    """In the course of a run, one instance after the other goes and a new one with an empty cache comes."""

    def __init__(self, built: Index, port: int, fleet: Sequence[Endpoint], *, turns: int) -> None:
        self._built, self._port, self._every = built, port, turns // (_MORE + 1)
        self._going = deque(fleet[:_MORE])
        self._coming = deque(fleet[ENGINES:])

    async def after(self, turns: int) -> None:
        if turns % self._every or not self._coming:
            return
        gone = self._going.popleft()
        self._built.publisher.withdraw(gone.instance_id, gone.model_id)
        come = self._coming.popleft()
        self._built.publisher.publish(come)
        await asyncio.to_thread(say_ready, self._port, come)


async def _converse(
    conversations: deque[list[dict[str, str]]], port: int, key: str, changes: _Changes | None = None
) -> _Tally:
    """All conversations side by side, each a turn at a time, until each has had all its turns."""
    tally = _Tally()
    turns = len(conversations) * _TURNS

    async def take_turns() -> None:
        nonlocal turns
        while turns:
            turns -= 1
            conversation = conversations.popleft()
            await _turn(client, conversation, tally)
            conversations.append(conversation)
            if changes is not None:
                await changes.after(tally.requests)

    headers = {"authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30, trust_env=False) as client,
        asyncio.TaskGroup() as clients,
    ):
        for _ in range(min(_AT_ONCE, len(conversations))):
            clients.create_task(take_turns())
    return tally


async def _turn(client: httpx.AsyncClient, conversation: list[dict[str, str]], tally: _Tally) -> None:
    conversation.append({"role": "user", "content": _words(60)})
    prompt = rendered(conversation)
    possible = tally.said.found(prompt)
    tally.said.remember(prompt)
    answer = await client.post("/v1/chat/completions", json={"model": chats.MODEL, "messages": conversation})
    tally.requests += 1
    if answer.status_code != 200:
        tally.errors += 1
        conversation.pop()
        return
    told = answer.json()
    usage = told["usage"]
    tally.prompt += usage["prompt_tokens"]
    tally.found += usage["prompt_tokens_details"]["cached_tokens"]
    tally.possible += possible // 4
    conversation.append(told["choices"][0]["message"])
    tally.said.remember(rendered(conversation))


_random = random.Random(_SEED)  # noqa: S311 - nothing secret
_WORDS = [
    f"{head}{tail}" for head in ("ba", "de", "ki", "lo", "mu", "ra", "si", "tan") for tail in ("n", "rt", "x", "")
]


def _words(count: int) -> str:
    return " ".join(_random.choices(_WORDS, k=count))


def _begun(count: int) -> deque[list[dict[str, str]]]:
    system = [_words(150) for _ in range(_SYSTEM_PROMPTS)]
    return deque([{"role": "system", "content": system[number % _SYSTEM_PROMPTS]}] for number in range(count))


SCENARIO = Scenario(
    name="prefixes",
    title=f"Prefix routing: tokens of the prompts that were found in a cache, {ENGINES} engines",
    columns=(
        Column("hit_rate", "hit rate", digits=3),
        Column("possible", "with one cache that forgets nothing", digits=3),
        Column("of_possible", "share of that", digits=3),
        Column("requests", "requests"),
        Column("errors", "errors"),
    ),
    turns=lambda bench: 4 + len(_cache_aware(bench)),
    run=run,
)
