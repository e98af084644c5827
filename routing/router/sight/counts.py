"""What the router has counted, as values that can be summed over its processes. Nothing here knows of Prometheus.

A request costs a look-up and a few additions to plain lists; all the rest is done when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

# Bounds are those of OpenTelemetry's GenAI conventions where these have the metric, else of vLLM's like metric, with
# what a router needs below (its own share is microseconds) and above (an answer may take an hour).
DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 600.0, 3600.0)
FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 120.0)
PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
QUEUED = (0.001, 0.005, 0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0)
SELECTED = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

Histogram = list[float]  # how many fell into each bucket, then how many above the last bound, then the sum of all
Key = tuple[str, str, int, str]  # model, operation, status, error code: see passage.Passage


def _empty(bounds: tuple[float, ...]) -> Callable[[], Histogram]:
    return lambda: [0] * (len(bounds) + 2)


@dataclass(slots=True)
class Series:
    """The requests of one Key. How many they were is what `duration` holds: every request has one."""

    duration: Histogram = field(default_factory=_empty(DURATION))
    first_token: Histogram = field(default_factory=_empty(FIRST_TOKEN))
    per_token: Histogram = field(default_factory=_empty(PER_TOKEN))
    queued: Histogram = field(default_factory=_empty(QUEUED))
    selected: Histogram = field(default_factory=_empty(SELECTED))
    input: Histogram = field(default_factory=_empty(TOKENS))
    output: Histogram = field(default_factory=_empty(TOKENS))
    cached: int = 0  # tokens
    retries: int = 0

    def add(self, other: Series) -> None:
        for name in self.__slots__:
            ours, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, added(ours, theirs) if isinstance(ours, list) else ours + theirs)

    def copy(self) -> Series:
        row: list[Any] = [each[:] if isinstance(each, list) else each for each in self.to_row()]
        return Series(*row)

    def to_row(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]


@dataclass(slots=True)
class Counts:
    series: dict[Key, Series] = field(default_factory=dict)
    ejections: dict[str, int] = field(default_factory=dict)  # by model
    upstream_errors: dict[str, int] = field(default_factory=dict)  # by kind

    def add(self, other: Counts) -> None:
        for key, series in other.series.items():
            self.series.setdefault(key, Series()).add(series)
        _add_up(self.ejections, other.ejections)
        _add_up(self.upstream_errors, other.upstream_errors)

    def copy(self) -> Counts:
        """Done on the event loop, so that nothing is counted in between: kept short."""
        series = {key: each.copy() for key, each in self.series.items()}
        return Counts(series, self.ejections.copy(), self.upstream_errors.copy())

    def to_plain(self) -> list[Any]:
        """As JSON can hold it."""
        rows = [[*key, series.to_row()] for key, series in self.series.items()]
        return [rows, self.ejections, self.upstream_errors]

    @classmethod
    def from_plain(cls, plain: Sequence[Any]) -> Self:
        rows, ejections, upstream_errors = plain
        series = {(model, operation, status, error): Series(*row) for model, operation, status, error, row in rows}
        return cls(series=series, ejections=ejections, upstream_errors=upstream_errors)


def added(one: Histogram, other: Histogram) -> Histogram:
    return [left + right for left, right in zip(one, other, strict=True)]


def _add_up(total: dict[str, int], more: dict[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Reading:
    """What is so at this moment in a process."""

    running: Mapping[str, int]  # requests that an instance is at work on, by model
    waiting: Mapping[str, int]  # requests that wait for a free place, by model
    connections: int  # of clients, open
    redis_connected: bool
    snapshot_age: float  # seconds since the index was last seen whole; inf = never
