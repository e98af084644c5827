"""A deadline that is moved often and met seldom: moving it costs no timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Deadline:
    """One for a whole connection. The timer below it is left as it is while the deadline moves away, and set again
    when it runs out too early."""

    __slots__ = ("_at", "_fires_at", "_loop", "_then", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._at = self._fires_at = inf
        self._timer: asyncio.TimerHandle | None = None
        self._then: Callable[[], object] | None = None

    def set(self, seconds: float, then: Callable[[], object]) -> None:
        """From now on: call `then` in so many seconds, unless it is lifted or set anew."""
        self._then = then
        self._at = self._loop.time() + seconds
        if self._at < self._fires_at:
            self._arm()

    def lift(self) -> None:
        self._at = inf

    def cancel(self) -> None:
        """For good. It lets go of what it was to call."""
        self._at, self._then = inf, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._fires_at = None, inf

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._at
        self._timer = self._loop.call_at(self._at, self._look)

    def _look(self) -> None:
        self._timer, self._fires_at = None, inf
        if self._loop.time() < self._at < inf:
            self._arm()
        elif self._at < inf and self._then is not None:
            self._at = inf
            self._then()
