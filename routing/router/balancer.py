"""Which instance is to answer, as pure functions of what is known in this process. Redis does the choosing while it
is there (see routing.discovery.scripts.PICK); this is what is left to us when it is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from routing.discovery.records import Target

_RESTS_FOR = 5.0  # seconds
_MOST_RESTING = 32


def least_busy(
    targets: Sequence[Target],
    *,
    in_flight: Mapping[str, int],
    excluded: Collection[str],
    draw: Callable[[int], int],
) -> Target | None:
    """The one with the fewest requests of ours; `draw(n)` (0 <= it < n) says where to begin, to break ties."""
    usable = [target for target in targets if target.instance_id not in excluded]
    if not usable:
        return None
    start = draw(len(usable))
    return min(usable[start:] + usable[:start], key=lambda target: in_flight.get(target.instance_id, 0))


class Resting:
    """Instances that refused a connection a moment ago, and are spared while others are there. Time is an argument."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, instance_id: str, now: float) -> bool:
        """Returns whether it is news."""
        is_news = self._until.pop(instance_id, 0.0) <= now
        self._until[instance_id] = now + _RESTS_FOR
        if len(self._until) > _MOST_RESTING:
            del self._until[next(iter(self._until))]
        return is_news

    def at(self, now: float) -> tuple[str, ...]:
        if not self._until:
            return ()
        self._until = {each: until for each, until in self._until.items() if until > now}
        return tuple(self._until)
