"""What rented things have cost so far, by the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from fleet.models import Instance, Rental

_CENT_OF_A_CENT = Decimal("0.0001")


def total(rentals: Iterable[Rental], *, now: datetime) -> Mapping[str, Decimal]:
    """By currency. What has no known price is not in it."""
    sums: dict[str, Decimal] = {}
    for rental in rentals:
        if rental.price_per_hour is not None:
            sums[rental.currency] = sums.get(rental.currency, Decimal(0)) + rental.cost(now)
    return {currency: amount.quantize(_CENT_OF_A_CENT) for currency, amount in sorted(sums.items())}


def of_instance(instance: Instance, *, now: datetime) -> Mapping[str, Decimal]:
    """All that its attempts have rented. Asks nothing where `attempts__rentals` is prefetched."""
    return total((rental for attempt in instance.attempts.all() for rental in attempt.rentals.all()), now=now)
