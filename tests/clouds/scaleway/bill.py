"""What the stand-in bills: each thing from its making to its end, whatever state it is in meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from tests.clouds.scaleway.machine_types import all_types
from tests.clouds.scaleway.state import Books

# As the vendor's price list has them; not the driver's own constants, which a test compares with these.
_SBS_PER_GB = Decimal("0.000118")
_IPV4 = Decimal("0.004")


@dataclass(frozen=True, slots=True)
class Line:
    kind: Literal["server", "volume", "ip"]
    id: str
    since: datetime
    until: datetime | None  # None: it exists
    price_per_hour: Decimal  # EUR
    tags: tuple[str, ...]

    def amount(self, now: datetime) -> Decimal:
        return self.price_per_hour * Decimal(((self.until or now) - self.since).total_seconds()) / 3600


def lines(books: Books) -> list[Line]:
    """Of everything there ever was, the eldest first."""
    return sorted(_lines(books), key=lambda line: (line.since, line.id))


def _lines(books: Books) -> Iterator[Line]:
    for server in books.servers.values():
        price = Decimal(all_types()[server.commercial_type].price_per_hour)
        yield Line("server", server.id, server.created_at, server.ended_at, price, tuple(server.tags))
    for volume in books.volumes.values():
        price = _SBS_PER_GB * volume.size / 10**9
        yield Line("volume", volume.id, volume.created_at, volume.ended_at, price, tuple(volume.tags))
    for address in books.addresses.values():
        price = _IPV4 if address.type == "routed_ipv4" else Decimal(0)
        yield Line("ip", address.id, address.created_at, address.ended_at, price, tuple(address.tags))
