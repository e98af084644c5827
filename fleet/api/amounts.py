"""How sums of money are written: by currency, as decimals."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

AMOUNTS = {"type": "object", "additionalProperties": {"type": "string", "format": "decimal"}}


def amounts(sums: Mapping[str, Decimal]) -> dict[str, str]:
    return {currency: format(amount, "f") for currency, amount in sums.items()}
