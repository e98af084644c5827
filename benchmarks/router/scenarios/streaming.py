"""Streams: what an event costs, and whether a router keeps up with very many of them on one core.

The engine writes into each event when it was sent, the load generator reads that: an event's lateness is the time
from the engine to the client. Each event is an SSE chunk with one token, as vLLM sends it.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.router import chats, programs
from benchmarks.router.bench import Bench, Column, Figures, Outcome, Scenario, take_turns
from benchmarks.router.meter import Meter
from benchmarks.router.routers import Direct, Router, Running

EVENTS_PER_SECOND = 50  # of each stream
_RAMP = 1.0  # seconds over which they are opened
_PATIENCE = 4  # times as long as it should take
_BEHIND_US = 250_000.0  # an event in a hundred this late at the end: it does not keep up


def run_some(bench: Bench) -> Outcome:
    return _run(bench, bench.routers, streams=bench.effort.streams, rounds=_some_rounds(bench))


def run_many(bench: Bench) -> Outcome:
    return _run(bench, _at_scale(bench), streams=bench.effort.many_streams, rounds=_many_rounds(bench))


def measure(bench: Bench, running: Running, *, streams: int) -> Figures:
    meter = Meter(running)
    seconds = _RAMP + bench.effort.stream_seconds
    events = int(EVENTS_PER_SECOND * seconds)
    meter.begin()
    found = programs.load_streams(
        bench.programs,
        running.port,
        chats.stream(running.port, running.key, events=events),
        streams=streams,
        ramp=_RAMP,
        within=seconds * _PATIENCE,
        end=meter.weigh,
    )
    meter.end()
    first, last = found.lateness_first_third.p99, found.lateness_last_third.p99
    complete = found.errors == 0 and found.events == streams * events
    return {
        "cpu_ms_per_1000": meter.router / found.events * 1e6 if found.events else 0.0,
        "rate": found.lateness.count / found.seconds / streams,
        "late_p50_us": found.lateness.p50,
        "late_p99_us": found.lateness.p99,
        "late_p99_first_us": first,
        "late_p99_last_us": last,
        "gap_p99_us": found.gap.p99,
        "memory_mib": meter.memory_mib,
        "events": found.events,
        "errors": found.errors,
        "keeps_up": float(complete and found.together and last < _BEHIND_US),
    }


def _run(bench: Bench, routers: Sequence[Router], *, streams: int, rounds: int) -> Outcome:
    with programs.engines(bench.programs, events_per_second=EVENTS_PER_SECOND) as ports:
        return take_turns(
            bench, routers, ports, lambda running: measure(bench, running, streams=streams), rounds=rounds
        )


def _at_scale(bench: Bench) -> list[Router]:
    """What the engine and the load generator do without a router in between is measured too: they share a core."""
    return [Direct(), *(router for router in bench.routers if not router.is_slow)]


def _some_rounds(bench: Bench) -> int:
    return max(1, bench.effort.rounds // 2 + 1)


def _many_rounds(bench: Bench) -> int:
    return max(1, bench.effort.rounds // 2)


SOME = Scenario(
    name="streaming",
    title=f"Streaming: 100 streams of {EVENTS_PER_SECOND} events a second",
    columns=(
        Column("cpu_ms_per_1000", "CPU ms per 1,000 events", digits=1, ratio=True),
        Column("late_p50_us", "late p50 us"),
        Column("late_p99_us", "late p99 us"),
        Column("memory_mib", "memory MiB"),
        Column("errors", "errors"),
    ),
    turns=lambda bench: len(bench.routers) * _some_rounds(bench),
    run=run_some,
)
MANY = Scenario(
    name="many-streams",
    title=f"Streaming: 1,000 streams of {EVENTS_PER_SECOND} events a second on one core",
    columns=(
        Column("keeps_up", "keeps up"),
        Column("rate", "events a second of a stream", digits=1),
        Column("late_p50_us", "late p50 us"),
        Column("late_p99_us", "late p99 us"),
        Column("late_p99_last_us", "p99 of the last third"),
        Column("cpu_ms_per_1000", "CPU ms per 1,000 events", digits=1, ratio=True),
        Column("memory_mib", "memory MiB"),
        Column("errors", "errors"),
    ),
    turns=lambda bench: len(_at_scale(bench)) * _many_rounds(bench),
    run=run_many,
)
