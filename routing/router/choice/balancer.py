"""Pure decisions of this process: which instance while Redis can't be asked (while it can, Redis chooses: see
routing.discovery.taking), what is spared meanwhile, and how much may be tried again. Time is an argument."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from routing.discovery.records import Candidate

_RESTS_FOR = 5.0  # seconds
_MOST_RESTING = 32


def least_busy(
    candidates: Sequence[Candidate],
    *,
    in_flight: Mapping[str, int],
    excluded: Collection[str],
    draw: Callable[[int], int],
) -> Candidate | None:
    """The one with the fewest requests of ours for its weight; `draw(n)` (0 <= it < n) says where to begin, to break
    ties."""
    usable = [each for each in candidates if each.target.instance_id not in excluded]
    if not usable:
        return None
    start = draw(len(usable))
    return min(
        usable[start:] + usable[:start],
        key=lambda each: (in_flight.get(each.target.instance_id, 0) + 1) / each.weight,
    )


class Resting:
    """Instances that failed a moment ago, and are spared while others are there."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, instance_id: str, now: float) -> None:
        self._until.pop(instance_id, None)
        self._until[instance_id] = now + _RESTS_FOR
        if len(self._until) > _MOST_RESTING:
            del self._until[next(iter(self._until))]

    def at(self, now: float) -> tuple[str, ...]:
        if not self._until:
            return ()
        self._until = {each: until for each, until in self._until.items() if until > now}
        return tuple(self._until)


class RetryBudget:
    """How many requests that an engine had already received may be sent to another one: a share of all requests, so
    that a fleet that fails under its load does not get the load twice. A refused connection costs nothing."""

    def __init__(self, *, share: float = 0.2, at_most: float = 500.0) -> None:
        self._share = share
        self._at_most = at_most
        self._left = at_most

    def earn(self) -> None:
        """A request came."""
        self._left = min(self._left + self._share, self._at_most)

    def spend(self) -> bool:
        """Returns whether there was something left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
