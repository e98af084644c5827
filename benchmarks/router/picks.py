"""How long the router's way to an instance takes by itself: the script in Redis that chooses one and counts the request
there and against the limits of its key, over the router's own connection, one after the other."""

from __future__ import annotations

import hashlib
import time
from statistics import median

import uvloop

from benchmarks.router import chats, machine
from benchmarks.router.routers import Running
from routing.discovery.directory import SCRIPTS, Admission, Directory, Settlement
from routing.discovery.link import Link

_TOKENS = 400  # that a request is thought to take
_LONG = 24 * 3600.0


def pick_us(running: Running, *, seconds: float) -> float:
    """The median, microseconds, as the router's event loop on the router's CPU would see it."""
    with machine.pinned(machine.ROUTER_CPU):
        return median(uvloop.run(_pick(running, seconds))) * 1e6


async def _pick(running: Running, seconds: float) -> list[float]:
    link = Link(running.redis_url, scripts=SCRIPTS)
    directory = Directory(link, router_id="benchmark", stale_after=_LONG, snapshot_age=_LONG)
    await link.start(wait=5)
    key = await directory.client_key(hashlib.sha256(running.key.encode()).hexdigest())
    assert key is not None  # noqa: S101 - for the type checker: the index was just built
    admitted = Admission(key=key, tokens=_TOKENS, month="2026-11")
    settlement = Settlement(admitted, tokens=_TOKENS)
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        target, _ = await directory.take(chats.MODEL, admission=admitted)
        taken.append(time.perf_counter() - began)
        directory.release_and_settle(target, settlement)
    await link.close()
    return taken
