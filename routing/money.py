"""Money, as the router counts it: in millionths of the currency's unit."""

from __future__ import annotations

from decimal import Decimal

MICROS = 1_000_000


def micros(amount: Decimal | None) -> int:
    """No amount counts as 0."""
    return int((amount or 0) * MICROS)


def amount(micros: int) -> Decimal:
    return Decimal(micros) / MICROS
