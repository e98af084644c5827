"""How the stand-in can be made to misbehave. Each is a fault that a cloud has been seen to have."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.clouds.scaleway import errors


class Dropped(Exception):
    """The connection ends without an answer."""


class Hung(Exception):
    """Nothing comes, for as long as the caller waits."""


class Fault(enum.StrEnum):
    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    CONFLICT = "409"
    THROTTLED = "429, empty"
    BAD_GATEWAY = "502, HTML"
    QUOTA = "quota"
    DROPPED = "closed without an answer"
    HANG = "no answer"


_AS_RAISED: dict[Fault, Callable[[], Exception]] = {
    Fault.UNAUTHORIZED: errors.denied_authentication,
    Fault.FORBIDDEN: errors.permissions_denied,
    Fault.CONFLICT: lambda: errors.transient_state("instance_server", "", "starting"),
    Fault.THROTTLED: errors.too_many_requests,
    Fault.BAD_GATEWAY: errors.bad_gateway,
    Fault.QUOTA: lambda: errors.quotas_exceeded("instances_gpu"),
    Fault.DROPPED: Dropped,
    Fault.HANG: Hung,
}


@dataclass
class Faults:
    """What is armed. Counted ones strike so often; the others stay until they are taken back."""

    next_calls: deque[Fault] = field(default_factory=deque)  # of any call, in turn; nothing is done
    next_creates: deque[Fault] = field(default_factory=deque)  # of creates of servers, in turn; nothing is made
    next_group_creates: deque[Fault] = field(default_factory=deque)  # likewise, of security groups
    lost_answers: int = 0  # creates of servers that are done, and not answered
    late_listing_seconds: float = 0  # for so long, servers and volumes are missing from listings
    partial_listings: bool = False  # they promise more than they show, and no second page comes
    held_deletes: bool = False  # ends of servers and volumes are accepted, and get nowhere
    sold_out_at_create: set[tuple[str, str]] = field(default_factory=set)  # (type, zone)
    sold_out_at_start: set[tuple[str, str]] = field(default_factory=set)
    outage: Fault | None = None  # of every call

    def strike_call(self) -> None:
        if self.outage is not None:
            raise _AS_RAISED[self.outage]()
        if self.next_calls:
            raise _AS_RAISED[self.next_calls.popleft()]()

    def strike_create(self) -> None:
        if self.next_creates:
            raise _AS_RAISED[self.next_creates.popleft()]()

    def strike_group_create(self) -> None:
        if self.next_group_creates:
            raise _AS_RAISED[self.next_group_creates.popleft()]()

    def strike_answer_of_create(self) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            raise Dropped

    def is_sold_out(self, instance_type: str, zone: str) -> bool:
        return (instance_type, zone) in self.sold_out_at_create | self.sold_out_at_start
