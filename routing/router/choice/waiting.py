"""The waiting room for requests that found every instance full: bounded, in turn by key, with a deadline.

Each process has its own. Whoever is let go asks for an instance again, and comes back to the head of his line if
another was quicker; `tick` lets the first of each model try now and then, for places that other routers gave back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping


class QueueFull(Exception):
    """As many wait as may: refuse with 429."""


class WaitedInVain(Exception):
    """No place came free in time: refuse with 503 and Retry-After."""


class _Lines:
    """Those that wait for one model: a line for each key, and the keys in turn."""

    def __init__(self) -> None:
        self.by_key: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.length = 0

    def join(self, key_id: str, ticket: asyncio.Future[None], *, in_front: bool) -> None:
        line = self.by_key.setdefault(key_id, deque())
        if in_front:
            line.appendleft(ticket)
            self.by_key.move_to_end(key_id, last=False)
        else:
            line.append(ticket)
        self.length += 1

    def next(self) -> asyncio.Future[None] | None:
        while self.by_key:
            key_id, line = next(iter(self.by_key.items()))
            ticket = line.popleft()
            self.length -= 1
            if line:
                self.by_key.move_to_end(key_id)
            else:
                del self.by_key[key_id]
            if not ticket.done():
                return ticket
        return None

    def make_room_for(self, key_id: str) -> bool:
        """The last of the longest line has to go, if that is longer than this key's would be."""
        longest = max(self.by_key.values(), key=len, default=None)
        if longest is None or len(longest) <= len(self.by_key.get(key_id, ())) + 1:
            return False
        self.length -= 1
        _fail(longest.pop(), QueueFull())
        return True

    def leave(self, key_id: str, ticket: asyncio.Future[None]) -> None:
        line = self.by_key.get(key_id)
        if line is not None and ticket in line:
            line.remove(ticket)
            self.length -= 1
            if not line:
                del self.by_key[key_id]


class WaitingRoom:
    """`length`: how many may wait for one model."""

    def __init__(self, *, length: int) -> None:
        self._length = length
        self._models: dict[str, _Lines] = {}

    def has(self, model_id: str) -> bool:
        """Whether somebody waits, so that who comes now has to queue behind him."""
        return model_id in self._models

    def lengths(self) -> Mapping[str, int]:
        return {model_id: lines.length for model_id, lines in self._models.items()}

    async def wait(self, model_id: str, key_id: str, *, until: float, returning: bool) -> None:
        """Until it is this request's turn to try. `until`: the loop's time; `returning`: it tried, in vain.

        Raises QueueFull, WaitedInVain."""
        loop = asyncio.get_running_loop()
        lines = self._models.setdefault(model_id, _Lines())
        if lines.length >= self._length and not returning and not lines.make_room_for(key_id):
            raise QueueFull(model_id)
        ticket: asyncio.Future[None] = loop.create_future()
        lines.join(key_id, ticket, in_front=returning)
        timer = loop.call_at(until, _run_out, ticket)
        try:
            await ticket
        except asyncio.CancelledError:
            if ticket.done() and not ticket.cancelled() and ticket.exception() is None:
                self.let_one_try(model_id)  # he left when it was his turn: the next one has it
            raise
        finally:
            timer.cancel()
            lines.leave(key_id, ticket)
            if not lines.length and self._models.get(model_id) is lines:
                del self._models[model_id]

    def let_one_try(self, model_id: str) -> None:
        """A place came free."""
        lines = self._models.get(model_id)
        ticket = lines.next() if lines is not None else None
        if ticket is not None:
            ticket.set_result(None)

    def tick(self) -> None:
        for model_id in list(self._models):
            self.let_one_try(model_id)


def _run_out(ticket: asyncio.Future[None]) -> None:
    _fail(ticket, WaitedInVain())


def _fail(ticket: asyncio.Future[None], error: Exception) -> None:
    if not ticket.done():
        ticket.set_exception(error)
