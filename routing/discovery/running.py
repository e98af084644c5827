"""How many requests of each key are under way in this router, where the key has a limit of them.

Redis counts along, atomically for all routers. When the connection breaks, what was on its way is lost, or done though
nobody heard of it; and no heartbeat puts a key's count right, as it does an instance's load. So each router says now
and then how many there really are.
"""

from __future__ import annotations

from collections.abc import Iterator


class Running:
    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # 0 = it may be that Redis has not heard so

    def begin(self, key_id: str) -> None:
        """Redis is being asked to let a request in."""
        self._counts[key_id] = self._counts.get(key_id, 0) + 1

    def end(self, key_id: str) -> None:
        """It was not let in, or it is over."""
        self._counts[key_id] -= 1

    def told(self) -> Iterator[tuple[str, int]]:
        """Key ids and counts, to be told to Redis behind everything that has been sent."""
        for key_id, count in list(self._counts.items()):
            if not count:
                del self._counts[key_id]
            yield key_id, count
