"""Very many instances, each heard every ten seconds over a connection of its own, from an address of its own."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles

from benchmarks.router.bench import Bench, Column, Outcome, Scenario
from benchmarks.router.inventiv import Inventiv, agent_token, endpoint, index, router
from benchmarks.router.meter import Meter
from benchmarks.router.routers import Running
from benchmarks.swarm import post
from routing.discovery.records import Endpoint
from routing.router import heartbeats

EVERY = 10.0  # seconds, each instance
_PORT = 8000  # of their engines, which nobody asks here


@dataclass(slots=True)
class _Heard:
    latencies: list[float] = field(default_factory=list)  # seconds
    refused: int = 0


def run(bench: Bench) -> Outcome:
    fleet = [endpoint(number, port=_PORT, ip=_address(number)) for number in range(bench.effort.many_instances)]
    ours = Inventiv()
    with index(fleet) as built, router(bench.home_of(ours), built, {}) as process:
        meter = Meter(Running(port=process.port, pid=process.process.pid, redis_pid=built.redis_pid))
        url = f"http://127.0.0.1:{process.port}{heartbeats.PATH}"
        bench.tell(f"{len(fleet)} instances, each every {EVERY:g} s")
        asyncio.run(_beat(fleet, url, seconds=bench.effort.heartbeat_warm_up))
        meter.begin()
        began = time.monotonic()
        heard = asyncio.run(_beat(fleet, url, seconds=bench.effort.heartbeat_seconds))
        seconds = time.monotonic() - began
        meter.end()
        meter.weigh()
    figures = {
        "instances": float(len(fleet)),
        "per_second": len(heard.latencies) / seconds,
        "router_cores": meter.router / seconds,
        "redis_cores": meter.redis / seconds,
        "cores": (meter.router + meter.redis) / seconds,
        "cpu_us": meter.router / len(heard.latencies) * 1e6,
        "p99_ms": quantiles(heard.latencies, n=100)[98] * 1e3,
        "memory_mib": meter.memory_mib,
        "errors": float(heard.refused),
    }
    return {ours.name: [figures]}


async def _beat(fleet: Sequence[Endpoint], url: str, *, seconds: float) -> _Heard:
    """One instance after the other at an even pace, whether or not the ones before have been answered."""
    heard, began = _Heard(), time.monotonic()
    async with asyncio.TaskGroup() as beats:
        for number, instance in enumerate(itertools.cycle(fleet)):
            wait = began + number * EVERY / len(fleet) - time.monotonic()
            if time.monotonic() - began > seconds:
                break
            if wait > 0:
                await asyncio.sleep(wait)
            beats.create_task(_beat_once(instance, url, heard))
    return heard


async def _beat_once(instance: Endpoint, url: str, heard: _Heard) -> None:
    began = time.monotonic()
    body = {"instance_id": instance.instance_id, "ready": True, "load": 0, "detail": ""}
    status, _ = await post(url, body, source=instance.ip, token=agent_token(instance.instance_id))
    heard.latencies.append(time.monotonic() - began)
    heard.refused += status != 200


def _address(number: int) -> str:
    """One of the many that a machine has for itself."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


SCENARIO = Scenario(
    name="heartbeats",
    title=f"Heartbeats: instances that are each heard every {EVERY:g} s",
    columns=(
        Column("instances", "instances"),
        Column("per_second", "heartbeats a second"),
        Column("router_cores", "cores: router", digits=2),
        Column("redis_cores", "and Redis", digits=2),
        Column("cpu_us", "router's CPU us each", digits=1),
        Column("p99_ms", "answered p99 ms", digits=1),
        Column("memory_mib", "memory MiB"),
        Column("errors", "refused"),
    ),
    turns=lambda bench: 1,
    run=run,
)
