"""What a router adds to a request when nothing else goes on: one connection, one request after the other."""

from __future__ import annotations

from benchmarks.router import chats, programs
from benchmarks.router.bench import Bench, Column, Figures, Outcome, Scenario, take_turns
from benchmarks.router.routers import Direct, Router, Running

_EVENTS_PER_SECOND = 50  # nobody streams here


def run(bench: Bench) -> Outcome:
    with programs.engines(bench.programs, events_per_second=_EVENTS_PER_SECOND) as ports:
        found = take_turns(
            bench, _routers(bench), ports, lambda running: measure(bench, running), rounds=_rounds(bench)
        )
    direct = found[Direct.name]
    return {name: [_added(*pair) for pair in zip(rounds, direct, strict=True)] for name, rounds in found.items()}


def measure(bench: Bench, running: Running) -> Figures:
    found = programs.load_requests(
        bench.programs,
        running.port,
        chats.chat(running.port, running.key),
        connections=1,
        warm_up=bench.effort.warm_up / 4,
        seconds=bench.effort.seconds / 2,
    )
    return {"p50_us": found.latency.p50, "p99_us": found.latency.p99, "errors": found.errors}


def _added(figures: Figures, direct: Figures) -> Figures:
    return {**figures, "added_p50_us": figures["p50_us"] - direct["p50_us"]}


def _routers(bench: Bench) -> list[Router]:
    return [Direct(), *bench.routers]


def _rounds(bench: Bench) -> int:
    return bench.effort.rounds * 2 - 1  # shorter ones, for what disturbs comes in bursts


SCENARIO = Scenario(
    name="idle",
    title="Latency when idle: chats of 1 KB, one after the other",
    columns=(
        Column("p50_us", "p50 us"),
        Column("added_p50_us", "p50 added to direct, us"),
        Column("p99_us", "p99 us", ratio=True),
        Column("errors", "errors"),
    ),
    turns=lambda bench: len(_routers(bench)) * _rounds(bench),
    run=run,
)
