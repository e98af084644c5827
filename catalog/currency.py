"""Rates between the currencies of the catalogue: good for ranking offers and for limits, never for bills.

An offer keeps its own price and currency. This table is the only place where two currencies meet.
"""

from __future__ import annotations

from decimal import Decimal

# Approximate market rates of late 2025, rounded: a few per cent off doesn't change which machine is the cheaper one.
# Whoever rents in several currencies should look at them once a quarter.
REFERENCE = "EUR"
UNITS_PER_REFERENCE = {
    "EUR": Decimal("1"),
    "USD": Decimal("1.17"),
    "GBP": Decimal("0.87"),
    "CHF": Decimal("0.93"),
}


def is_known(currency: str) -> bool:
    return currency in UNITS_PER_REFERENCE


def convert(amount: Decimal, currency: str, *, to: str) -> Decimal:
    """`amount` in another currency, by the table. Raises KeyError for a currency that it does not have."""
    if currency == to:
        return amount
    return amount / UNITS_PER_REFERENCE[currency] * UNITS_PER_REFERENCE[to]
