"""What the stand-in bills: whatever exists, from the instant at which it came to be to the one at which it was gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from tests.clouds.aws.catalogue import PRICES
from tests.clouds.aws.machines import Machines

_SPOT = Decimal("0.00001")  # moto's, of every type
_GB_MONTH, _HOURS_PER_MONTH, _ADDRESS = Decimal("0.08"), 730, Decimal("0.005")


@dataclass(frozen=True, slots=True)
class Line:
    kind: str  # server, volume, ip
    id: str
    since: datetime
    price_per_hour: Decimal
    until: datetime | None = None  # None: it exists

    def amount(self, now: datetime) -> Decimal:
        return self.price_per_hour * Decimal(((self.until or now) - self.since).total_seconds()) / 3600


class Bill:
    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.reset()

    def reset(self) -> None:
        self._lines: dict[tuple[str, str], Line] = {}

    @property
    def lines(self) -> tuple[Line, ...]:
        return tuple(self._lines.values())

    def running(self, kind: str = "") -> int:
        """How many things are billed at this moment."""
        return sum(line.until is None and kind in {"", line.kind} for line in self.lines)

    def observe(self, now: datetime) -> None:
        """To be called after whatever may have changed what exists."""
        present = {(kind, identity): price for kind, identity, price in self._present()}
        for key, line in self._lines.items():
            if line.until is None and key not in present:
                self._lines[key] = replace(line, until=now)
        for key, price in present.items():
            if key not in self._lines:
                self._lines[key] = Line(*key, since=now, price_per_hour=price)

    def _present(self) -> Iterator[tuple[str, str, Decimal]]:
        for instance in self._machines.existing():
            on_demand = PRICES.get(instance.instance_type, Decimal(1))
            yield "server", instance.id, _SPOT if instance.lifecycle == "spot" else on_demand
            if instance.public_ip:
                yield "ip", f"{instance.id}/{instance.public_ip}", _ADDRESS
        for backend in self._machines.regions():
            for volume in backend.volumes.values():
                yield "volume", volume.id, (_GB_MONTH * volume.size / _HOURS_PER_MONTH)
            for address in backend.addresses:
                yield "ip", str(address.allocation_id), _ADDRESS
