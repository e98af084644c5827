"""The mock cloud's price list, from `offers.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

_PRICES = ("price_per_hour", "spot_price_per_hour")
_FILE = Path(__file__).with_name("offers.json")


@dataclass(frozen=True, slots=True)
class MachineType:
    name: str
    gpu_name: str
    gpu_count: int
    vram_per_gpu_gb: int
    price_per_hour: Decimal
    currency: str
    spot_price_per_hour: Decimal


@dataclass(frozen=True, slots=True)
class PriceList:
    regions: Mapping[str, tuple[str, ...]]  # region -> its zones
    types: Mapping[str, MachineType]  # by name; every zone has every type

    def has(self, region: str, zone: str) -> bool:
        return zone in self.regions.get(region, ())


@cache
def price_list() -> PriceList:
    data = json.loads(_FILE.read_text())
    types = [
        MachineType(**{**entry, **{name: Decimal(entry[name]) for name in _PRICES}}) for entry in data["instance_types"]
    ]
    return PriceList(
        regions={region: tuple(zones) for region, zones in data["regions"].items()},
        types={entry.name: entry for entry in types},
    )
