"""Whether choosing an instance costs the same among few and among very many of one model."""

from __future__ import annotations

from benchmarks.router import programs
from benchmarks.router.bars import FEW, MANY
from benchmarks.router.bench import Bench, Column, Figures, Outcome, Scenario, take_turns
from benchmarks.router.inventiv import Inventiv
from benchmarks.router.picks import pick_us
from benchmarks.router.routers import Running
from benchmarks.router.scenarios import idle, throughput

_FEW = 10
_EVENTS_PER_SECOND = 50  # nobody streams here


def run(bench: Bench) -> Outcome:
    """The first round is not counted: it opens the instances' sealed keys, each once."""
    with programs.engines(bench.programs, events_per_second=_EVENTS_PER_SECOND) as ports:
        found = take_turns(
            bench, _sizes(bench), ports, lambda running: _measure(bench, running), rounds=bench.effort.rounds + 1
        )
    return {name: rounds[1:] for name, rounds in found.items()}


def _measure(bench: Bench, running: Running) -> Figures:
    busy = throughput.measure(bench, running)
    alone = idle.measure(bench, running)
    return {
        **busy,
        "pick_p50_us": pick_us(running, seconds=bench.effort.seconds / 2),
        "idle_p50_us": alone["p50_us"],
        "errors": busy["errors"] + alone["errors"],
    }


def _sizes(bench: Bench) -> list[Inventiv]:
    return [Inventiv(name=FEW, instances=_FEW), Inventiv(name=MANY, instances=bench.effort.many_instances)]


SCENARIO = Scenario(
    name="selection",
    title="Selection: 10 instances of a model (few) and 10,000 (many)",
    columns=(
        Column("pick_p50_us", "pick p50 us"),
        Column("per_core_second", "requests per core-second"),
        Column("cpu_us", "CPU us a request", digits=1),
        Column("redis_us", "and of Redis", digits=1),
        Column("idle_p50_us", "p50 us, one after the other"),
        Column("memory_mib", "memory MiB"),
        Column("errors", "errors"),
    ),
    turns=lambda bench: len(_sizes(bench)) * (bench.effort.rounds + 1),
    run=run,
)
