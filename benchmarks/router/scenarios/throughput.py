"""Requests per core-second: how many chats a router forwards for each second of CPU that it uses."""

from __future__ import annotations

from benchmarks.router import chats, programs
from benchmarks.router.bench import Bench, Column, Figures, Outcome, Scenario, take_turns
from benchmarks.router.meter import Meter
from benchmarks.router.routers import Running

CONNECTIONS = 64
_EVENTS_PER_SECOND = 50  # nobody streams here


def run(bench: Bench) -> Outcome:
    with programs.engines(bench.programs, events_per_second=_EVENTS_PER_SECOND) as ports:
        return take_turns(
            bench, bench.routers, ports, lambda running: measure(bench, running), rounds=bench.effort.rounds
        )


def measure(bench: Bench, running: Running) -> Figures:
    meter = Meter(running)
    found = programs.load_requests(
        bench.programs,
        running.port,
        chats.chat(running.port, running.key),
        connections=CONNECTIONS,
        warm_up=bench.effort.warm_up,
        seconds=bench.effort.seconds,
        begin=meter.begin,
        end=meter.end,
    )
    meter.weigh()
    served = max(1, found.latency.count - found.errors)  # to refuse is no service
    return {
        "per_core_second": served / meter.router if meter.router else 0.0,
        "per_second": served / found.seconds,
        "cpu_us": meter.router / served * 1e6,
        "redis_us": meter.redis / served * 1e6,
        "p50_us": found.latency.p50,
        "p99_us": found.latency.p99,
        "memory_mib": meter.memory_mib,
        "errors": found.errors,
    }


SCENARIO = Scenario(
    name="throughput",
    title=f"Requests per core-second: chats of 1 KB over {CONNECTIONS} connections",
    columns=(
        Column("per_core_second", "requests per core-second", ratio=True),
        Column("cpu_us", "CPU us a request", digits=1),
        Column("redis_us", "and of Redis", digits=1),
        Column("memory_mib", "memory MiB"),
        Column("errors", "errors"),
    ),
    turns=lambda bench: len(bench.routers) * bench.effort.rounds,
    run=run,
)
