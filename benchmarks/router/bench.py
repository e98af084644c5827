"""What a scenario is given to measure with, and how several routers are measured in one run: in turns.

Other work on the machine then falls on all of them alike, so that ratios within a run hold where figures do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import mkdtemp

from benchmarks.router.programs import Failed, Programs
from benchmarks.router.routers import Router, Running

Figures = Mapping[str, float]  # of one round
Outcome = Mapping[str, Sequence[Figures]]  # by router
Tell = Callable[[str], None]  # what goes on now; called once for each turn of a router


@dataclass(frozen=True, slots=True)
class Effort:
    """How long it is all done; `seconds` are of one turn of a router."""

    rounds: int
    warm_up: float
    seconds: float
    streams: int
    many_streams: int
    stream_seconds: float
    many_instances: int
    heartbeat_warm_up: float
    heartbeat_seconds: float
    conversations: int


FULL = Effort(
    rounds=5,
    warm_up=1.0,
    seconds=4.0,
    streams=100,
    many_streams=1000,
    stream_seconds=8.0,
    many_instances=10_000,
    heartbeat_warm_up=10.0,
    heartbeat_seconds=20.0,
    conversations=200,
)
QUICK = Effort(
    rounds=1,
    warm_up=0.1,
    seconds=0.3,
    streams=10,
    many_streams=40,
    stream_seconds=0.5,
    many_instances=100,
    heartbeat_warm_up=0.2,
    heartbeat_seconds=1.0,
    conversations=16,
)


@dataclass(frozen=True, slots=True)
class Bench:
    programs: Programs
    home: Path  # a temporary directory
    effort: Effort
    routers: Sequence[Router]  # that are here, ours first
    tell: Tell

    def home_of(self, router: Router) -> Path:
        return Path(mkdtemp(prefix=f"{router.name}-", dir=self.home))


@dataclass(frozen=True, slots=True)
class Column:
    figure: str
    heading: str
    digits: int = 0
    ratio: bool = False  # whether to say what ours is of it


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    title: str
    columns: Sequence[Column]
    turns: Callable[[Bench], int]  # how often `tell` will be called
    run: Callable[[Bench], Outcome]


def take_turns(
    bench: Bench, routers: Sequence[Router], ports: Sequence[int], measure: Callable[[Running], Figures], *, rounds: int
) -> Outcome:
    """All routers up, each measured once a round. One that does not start is told and left out. Raises Failed."""
    outcome: dict[str, list[Figures]] = {}
    with ExitStack() as stack:
        up: dict[str, Running] = {}
        for router in routers:
            try:
                up[router.name] = stack.enter_context(router.running(ports, bench.home_of(router)))
            except Failed as error:
                print(f"{router.name} is left out: {error}", file=sys.stderr)
        for number in range(rounds):
            for name, running in up.items():
                bench.tell(f"{name}, round {number + 1} of {rounds}")
                outcome.setdefault(name, []).append(measure(running))
    return outcome


def medians(outcome: Outcome) -> dict[str, dict[str, float]]:
    return {
        router: {figure: median(each[figure] for each in rounds) for figure in rounds[0]}
        for router, rounds in outcome.items()
        if rounds
    }
