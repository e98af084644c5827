"""A driver that keeps to its account's rate of calls by itself: what is too much is answered at once, and not asked.

Nothing here sleeps. A call that has to wait raises Throttled, which says for how long; the clock is the orchestrator's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, TypeVar

from fleet.providers.base import (
    Absent,
    Destruction,
    Finding,
    Handle,
    Location,
    MachineOffer,
    OwnedResources,
    Provider,
    ServerSpec,
    ServerView,
    SshKeySpec,
    Throttled,
)

LONGEST_WAIT = 60.0  # seconds that a caller is told to wait, however many wait before it
T = TypeVar("T")


class Urgency(enum.IntEnum):
    """Who goes first when calls are short. What is less urgent leaves a part of the burst to what is more."""

    ENDING = 0  # finds or destroys what costs money: takes the last call
    GOING_ON = 1  # brings a machine up, or looks at one that is there: it costs money and serves nobody yet
    BEGINNING = 2  # asks for something new: nothing costs money before

    @property
    def leaves(self) -> float:
        """The share of the burst that it does not touch."""
        return self.value / 4


@dataclass(frozen=True, slots=True)
class Rate:
    per_second: float
    burst: float  # calls at once, after a rest

    @classmethod
    def of(cls, per_second: float) -> Rate:
        """As many at once as in a second."""
        return cls(per_second, max(1.0, per_second))

    def reserve(self, urgency: Urgency) -> float:
        """How many calls it leaves. With a burst of one there is nothing to share."""
        return (self.burst - 1) * urgency.leaves


class Meter(Protocol):
    """What an account may be asked now. Shared by whoever uses the account."""

    def take(self, urgency: Urgency) -> timedelta | None:
        """None: the call is taken into account, go ahead. Else it is not, and this is for how long to wait."""

    def empty(self) -> None:
        """The provider itself says that it was too much: nobody has a burst left."""


@dataclass
class Bucket:
    """A meter of this process alone: a token bucket that tells those it refuses when their turn is.

    Everybody who is refused gets a turn of his own, one after the other at the rate, so that they don't all come back
    at once. Whoever's turn it is competes as all do: a turn spreads, it promises nothing.
    """

    rate: Rate
    clock: Callable[[], float]  # seconds, never backwards
    tokens: float = field(init=False)
    at: float = field(init=False)
    last_turn: dict[Urgency, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens, self.at = self.rate.burst, self.clock()

    def take(self, urgency: Urgency) -> timedelta | None:
        now = self._fill()
        if self.tokens >= 1 + self.rate.reserve(urgency):
            self.tokens -= 1
            return None
        turn = max(self.last_turn.get(urgency, now), now) + 1 / self.rate.per_second
        self.last_turn[urgency] = min(turn, now + LONGEST_WAIT)
        return timedelta(seconds=self.last_turn[urgency] - now)

    def empty(self) -> None:
        self._fill()
        self.tokens = 0.0

    def _fill(self) -> float:
        now = self.clock()
        self.tokens = min(self.rate.burst, self.tokens + (now - self.at) * self.rate.per_second)
        self.at = now
        return now


class Metered:
    """A `Provider`. Each method is one call, though a driver may need several requests for it: a page of a listing,
    a disk beside its machine. What would be too much raises Throttled before the driver is asked for anything."""

    def __init__(self, driver: Provider, meter: Meter) -> None:
        self._driver = driver
        self._meter = meter

    @property
    def listing_lag(self) -> timedelta:
        return self._driver.listing_lag

    @property
    def remembers_attempts(self) -> bool:
        return self._driver.remembers_attempts

    def locations(self) -> Sequence[Location]:
        return self._call(Urgency.GOING_ON, self._driver.locations)

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        return self._call(Urgency.GOING_ON, lambda: self._driver.list_offers(location))

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        return self._call(Urgency.BEGINNING, lambda: self._driver.ensure_server(spec))

    def configure(self, handle: Handle, user_data: str) -> None:
        self._call(Urgency.GOING_ON, lambda: self._driver.configure(handle, user_data))

    def start(self, handle: Handle) -> None:
        self._call(Urgency.GOING_ON, lambda: self._driver.start(handle))

    def get(self, handle: Handle) -> ServerView | Absent:
        return self._call(Urgency.GOING_ON, lambda: self._driver.get(handle))

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        return self._call(Urgency.ENDING, lambda: self._driver.find_attempt(attempt_id, location))

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        return self._call(Urgency.ENDING, lambda: self._driver.list_owned(location, owner))

    def destroy_step(self, handle: Handle) -> Destruction:
        return self._call(Urgency.ENDING, lambda: self._driver.destroy_step(handle))

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        return self._call(Urgency.BEGINNING, lambda: self._driver.ensure_ssh_key(key))

    def check(self, location: Location) -> Sequence[Finding]:
        """An operator's, who is not made to wait."""
        return self._driver.check(location)

    def _call(self, urgency: Urgency, ask: Callable[[], T]) -> T:
        wait = self._meter.take(urgency)
        if wait is not None:
            raise Throttled("our own rate of calls to this account is used up: not asked", retry_after=wait)
        try:
            return ask()
        except Throttled:
            self._meter.empty()
            raise
