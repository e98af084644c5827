"""What is billed beside a machine, in EUR an hour. The API does not tell these prices.

From https://www.scaleway.com/en/pricing/storage/ and .../network/, autumn 2026, as measured by third parties.
"""

from __future__ import annotations

from decimal import Decimal

CURRENCY = "EUR"
SBS_PER_GB = Decimal("0.000118")
IPV4 = Decimal("0.004")
FREE = Decimal(0)

_BYTES_PER_GB = 10**9  # the vendor's gigabyte


def of_volume(size: int) -> Decimal:
    """`size` in bytes."""
    return SBS_PER_GB * size / _BYTES_PER_GB
