"""The bars that our router has to clear: one home for each number. All are of one run on one machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Medians = Mapping[str, Mapping[str, Mapping[str, float]]]  # scenario -> router -> figure
OURS = "inventiv"
FEW, MANY = "few", "many"  # ours in front of 10 and of 10,000 instances of a model


@dataclass(frozen=True, slots=True)
class Bar:
    claim: str
    bound: float
    measured: Callable[[Medians], float]  # raises KeyError if it was not measured
    at_least: bool = False

    def is_cleared_by(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    claim: str
    bound: float
    value: float
    cleared: bool


def verdicts(found: Medians) -> list[Verdict]:
    """Of the bars that this run could measure."""
    judged = []
    for bar in BARS:
        try:
            value = bar.measured(found)
        except (KeyError, ZeroDivisionError):
            continue
        judged.append(Verdict(bar.claim, bar.bound, value, bar.is_cleared_by(value)))
    return judged


def _ratio(scenario: str, figure: str, peer: str) -> Callable[[Medians], float]:
    return lambda found: found[scenario][OURS][figure] / found[scenario][peer][figure]


def _figure(scenario: str, figure: str) -> Callable[[Medians], float]:
    return lambda found: found[scenario][OURS][figure]


def _many_to_few(figure: str) -> Callable[[Medians], float]:
    return lambda found: found["selection"][MANY][figure] / found["selection"][FEW][figure]


def _at_least(bound: float, peer: str) -> Bar:
    claim = f"requests per core-second, x {peer}: at least {bound:g}"
    return Bar(claim, bound, _ratio("throughput", "per_core_second", peer), at_least=True)


BARS: Sequence[Bar] = (
    _at_least(1.2, "vllm-router"),
    _at_least(1.5, "sglang-router"),
    _at_least(100, "litellm"),
    _at_least(0.3, "nginx"),
    Bar("p50 that it adds when idle, us: at most 200", 200, _figure("idle", "added_p50_us")),
    Bar("p99 when idle, x nginx: at most 2", 2, _ratio("idle", "p99_us", "nginx")),
    Bar("CPU of an event, x sglang-router: at most 1.1", 1.1, _ratio("streaming", "cpu_ms_per_1000", "sglang-router")),
    Bar("1,000 streams x 50 events/s on one core: keeps up", 1, _figure("many-streams", "keeps_up"), at_least=True),
    Bar("memory at 1,000 streams, MiB: at most 60", 60, _figure("many-streams", "memory_mib")),
    Bar("CPU of a request, 10,000 x 10 instances: at most 1.3", 1.3, _many_to_few("cpu_us")),
    Bar("p50 of choosing, 10,000 x 10 instances: at most 1.3", 1.3, _many_to_few("pick_p50_us")),
    Bar("10,000 instances heard every 10 s, cores of router and Redis: at most 1", 1, _figure("heartbeats", "cores")),
)
