"""Tells the control plane what every request has taken: lines in a Redis stream, some dozens in an entry.

A line is kept until Redis has said that it has it, and sent again when the connection broke in between: the control
plane counts a line that comes twice once. What a router takes with it when it is killed is what ended in its last
FLUSH_EVERY seconds. With Redis away, lines wait here, the oldest give way when there are too many.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from routing.discovery import keys
from routing.discovery.link import Link, RedisAway
from routing.discovery.records import Usage
from routing.router.ids import unique_ids
from routing.router.passage import Passage, Tokens

log = logging.getLogger(__name__)

FLUSH_EVERY = 0.1  # seconds
_LINES_AN_ENTRY = 500
_MOST_KEPT = 200_000
_NOTHING = Tokens()


class UsageReport:
    def __init__(self, link: Link) -> None:
        self._link = link
        self._lines: deque[Usage] = deque()
        self._ids = unique_ids()
        self.lost = 0  # lines that gave way

    @property
    def waiting(self) -> int:
        return len(self._lines)

    def observe(self, passage: Passage) -> None:
        if not passage.instance_id:
            return
        self._lines.append(_usage(passage, usage_id=next(self._ids)))
        if len(self._lines) > _MOST_KEPT:
            self._lines.popleft()
            self.lost += 1
            if self.lost == 1:
                log.error("Redis is away for too long: usage is being lost")

    async def flush(self) -> None:
        """Hand everything to Redis, or as much as it takes."""
        while self._lines:
            batch = [self._lines.popleft() for _ in range(min(len(self._lines), _LINES_AN_ENTRY))]
            try:
                await self._link.command("XADD", keys.USAGE, "*", "lines", "\n".join(each.to_line() for each in batch))
            except RedisAway:
                self._lines.extendleft(reversed(batch))
                return
            except BaseException:
                self._lines.extendleft(reversed(batch))
                raise


def _usage(passage: Passage, *, usage_id: str) -> Usage:
    tokens = passage.tokens or _NOTHING
    return Usage(
        usage_id=usage_id,
        ended_at=time.time(),
        key_id=passage.key_id,
        model_id=passage.model_id,
        instance_id=passage.instance_id,
        operation=passage.operation,
        status=passage.status,
        streamed=passage.streamed,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cached_tokens=tokens.cached,
        estimated=passage.estimated,
        first_token_ms=_ms(passage.first_byte_at - passage.started) if passage.first_byte_at else -1,
        duration_ms=_ms(passage.ended_at - passage.started),
        cost_micros=passage.cost_micros,
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
