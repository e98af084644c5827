"""Which instance a conversation or a session should find again: consistent hashing with bounded load.

Every router makes the same ring of the same instances, so that they agree without asking each other. An instance that
comes or goes moves only the conversations next to it. Who carries more than his share passes a conversation on to the
next on the ring (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016).
"""

from __future__ import annotations

import struct
from bisect import bisect
from collections.abc import Mapping
from hashlib import blake2b
from math import ceil

from routing.discovery.snapshot import Crowd

_POINTS = 16  # of an instance of weight 1
_MOST_POINTS = 128
_TRIED = 3  # instances, from the conversation's place on
_SHARE = 1.25  # times the mean load: what one may carry before a conversation is passed on
_ALWAYS = 4.0  # so many requests never count as too many: a nearly idle fleet has no mean worth keeping to
_EIGHT = struct.Struct("<8Q")


class Ring:
    """`members`: id -> weight. 64-bit points; two that fall on one spot leave it to either."""

    def __init__(self, members: Mapping[str, float]) -> None:
        self._owner = {point: member for member, weight in members.items() for point in _points(member, weight)}
        self._points = sorted(self._owner)

    def after(self, key: bytes) -> tuple[str, ...]:
        """Up to three different members, beginning at the key's place."""
        found: dict[str, None] = {}
        place = bisect(self._points, _hash(key))
        for step in range(min(len(self._points), 4 * _POINTS)):
            found[self._owner[self._points[(place + step) % len(self._points)]]] = None
            if len(found) == _TRIED:
                break
        return tuple(found)


class Rings:
    """A ring for each model that needs one, made anew when its instances change."""

    def __init__(self) -> None:
        self._rings: dict[str, tuple[Mapping[str, float], Ring]] = {}

    def of(self, model_id: str, crowd: Crowd) -> Ring:
        members, ring = self._rings.get(model_id, (None, None))
        if ring is None or members is not crowd.members:
            ring = Ring(crowd.members)
            self._rings[model_id] = crowd.members, ring
        return ring


def bound(crowd: Crowd, *, in_flight: int) -> float:
    """The load up to which an instance of weight 1 keeps its conversations. `in_flight`: this router's requests of the
    model, which the picture may not show yet."""
    load = max(crowd.load, in_flight) + 1
    return max(_ALWAYS, ceil(_SHARE * load / (crowd.weight or 1)))


def _hash(key: bytes) -> int:
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def _points(member: str, weight: float) -> list[int]:
    points: list[int] = []
    for batch in range(ceil(min(max(_POINTS * weight, 1), _MOST_POINTS) / 8)):
        points += _EIGHT.unpack(blake2b(b"%d|%b" % (batch, member.encode())).digest())
    return points
