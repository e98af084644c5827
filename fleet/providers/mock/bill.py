"""What the mock cloud bills: the whole price, from a server's creation to its deletion, running or not.

Harsher than most clouds on purpose: a server that is forgotten costs, in whatever state it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from fleet.providers.base import TAG_INSTANCE
from fleet.providers.mock.store import Server, Store

_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Line:
    server_id: str
    instance_id: str  # empty for what is not ours
    instance_type: str
    zone: str
    since: datetime
    until: datetime | None  # None: it exists, and the clock runs
    price_per_hour: Decimal
    currency: str
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Bill:
    lines: tuple[Line, ...]

    @property
    def total(self) -> Mapping[str, Decimal]:
        """By currency, what has been spent."""
        return _sum((line.currency, line.amount) for line in self.lines)

    @property
    def per_hour(self) -> Mapping[str, Decimal]:
        """By currency, what an hour costs as things are; empty when nothing exists."""
        return _sum((line.currency, line.price_per_hour) for line in self.lines if line.until is None)


def bill(store: Store, *, now: datetime) -> Bill:
    with store.transaction() as books:
        return Bill(tuple(_line(server, now) for server in books.servers(deleted=True)))


def _line(server: Server, now: datetime) -> Line:
    seconds = ((server.deleted_at or now) - server.created_at).total_seconds()
    return Line(
        server_id=server.id,
        instance_id=server.tags.get(TAG_INSTANCE, ""),
        instance_type=server.instance_type,
        zone=server.zone,
        since=server.created_at,
        until=server.deleted_at,
        price_per_hour=server.price_per_hour,
        currency=server.currency,
        amount=server.price_per_hour * Decimal(seconds) / _SECONDS_PER_HOUR,
    )


def _sum(amounts: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = defaultdict(Decimal)
    for currency, amount in amounts:
        total[currency] += amount
    return dict(total)
