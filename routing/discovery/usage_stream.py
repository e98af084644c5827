"""The stream of usage, as the control plane reads it. Synchronous; never imports Django."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from routing.discovery import keys

_FIELD = b"lines"
_PAGE = 20  # entries, of some hundred lines each


@dataclass(frozen=True, slots=True)
class Entry:
    entry_id: str
    lines: tuple[bytes, ...] | None  # each a records.Usage, unless a router is at fault; None: it has no such field


class UsageStream:
    """Every method may raise `redis.RedisError`.

    `client` is a `redis.Redis` with time-outs and `decode_responses=False`: bytes that are no text must not keep the
    rest from being read.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client  # redis-py types its answers as "now or awaitable"

    def read(self, *, lines: int) -> list[Entry]:
        """The oldest entries, until they have about so many lines. The same ones again, until they are forgotten."""
        found: list[Entry] = []
        after, missing = b"-", lines
        while missing > 0:
            page = self._redis.xrange(keys.USAGE, min=after, max="+", count=_PAGE)
            for entry_id, fields in page:
                entry = _entry(entry_id, fields)
                found.append(entry)
                missing -= max(1, len(entry.lines or ()))
            if len(page) < _PAGE:
                break
            after = b"(" + page[-1][0]
        return found

    def forget(self, entries: Iterable[Entry]) -> None:
        ids = [entry.entry_id for entry in entries]
        if ids:
            self._redis.xdel(keys.USAGE, *ids)


def _entry(entry_id: bytes, fields: dict[bytes, bytes]) -> Entry:
    raw = fields.get(_FIELD)
    return Entry(entry_id.decode(), None if raw is None else tuple(raw.split(b"\n")))
