"""What the stand-in rents: the GPU types of our catalogue, as `products/servers` has them, and others to fill pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_CATALOGUE = Path(__file__).parents[3] / "catalog/data/scaleway.json"
_GIB = 2**30
_TB = 10**12
_SCRATCH_PER_GPU = {"L40S": 16 * _TB // 10, "H100": 3 * _TB, "H100-SXM": 16 * _TB // 10, "B300-SXM": 3 * _TB}
# CPU machines, so many that they need a second page at the largest page size: the API had 135 types in July 2026.
_OTHERS = 118


@dataclass(frozen=True, slots=True)
class MachineType:
    name: str
    zones: frozenset[str]  # empty: everywhere
    price_per_hour: str
    gpus: int = 0
    gpu_name: str = ""
    gpu_memory: int = 0
    scratch_bytes: int = 0
    has_local_disks: bool = True
    end_of_service: bool = False

    def is_in(self, zone: str) -> bool:
        return not self.zones or zone in self.zones


@cache
def all_types() -> dict[str, MachineType]:
    return {entry.name: entry for entry in (*_gpu_types(), *_cpu_types())}


def in_zone(zone: str) -> dict[str, MachineType]:
    return {name: entry for name, entry in all_types().items() if entry.is_in(zone)}


def product(entry: MachineType) -> dict[str, Any]:
    """As `GET products/servers` shows it."""
    largest = 800 * 10**9 if entry.has_local_disks else 0
    info = {"gpu_manufacturer": "NVIDIA", "gpu_name": entry.gpu_name, "gpu_memory": entry.gpu_memory}
    return {
        "alt_names": [],
        "arch": "x86_64",
        "ncpus": 8 * max(entry.gpus, 1),
        "ram": 48 * _GIB * max(entry.gpus, 1),
        "gpu": entry.gpus,
        "gpu_info": info if entry.gpus else None,
        "mig_profile": None,
        "volumes_constraint": {"min_size": 0, "max_size": largest},
        "per_volume_constraint": {"l_ssd": {"min_size": 0, "max_size": largest}},
        "scratch_storage_max_size": entry.scratch_bytes,
        "scratch_storage_max_volumes_count": 1 if entry.scratch_bytes else 0,
        "monthly_price": float(entry.price_per_hour) * 730,
        "hourly_price": float(entry.price_per_hour),
        "capabilities": {
            "boot_types": ["local", "rescue"],
            "placement_groups": True,
            "block_storage": True,
            "hot_snapshots_local_volume": False,
            "private_network": 8,
            "max_file_systems": 2,
        },
        "network": {
            "ipv6_support": True,
            "sum_internal_bandwidth": 2500000000,
            "sum_internet_bandwidth": 2500000000,
            "interfaces": [{"internal_bandwidth": 2500000000, "internet_bandwidth": 2500000000}],
        },
        "block_bandwidth": 1048576000,
        "end_of_service": entry.end_of_service,
    }


def _gpu_types() -> list[MachineType]:
    catalogue = json.loads(_CATALOGUE.read_text())
    sold = [
        MachineType(
            name=entry["name"],
            zones=frozenset(entry["zones"]),
            price_per_hour=entry["price_per_hour"],
            gpus=entry["gpu_count"],
            gpu_name=entry["gpu_name"].partition("-")[0],
            gpu_memory=entry["vram_per_gpu_gb"] * _GIB,
            scratch_bytes=_SCRATCH_PER_GPU.get(entry["gpu_name"], 0) * entry["gpu_count"],
            has_local_disks=entry["name"] == "RENDER-S",
        )
        for entry in catalogue["instance_types"]
    ]
    retired = MachineType("GPU-3070-S", frozenset(), "0.98", 1, "RTX 3070", 8 * _GIB, end_of_service=True)
    return [*sold, retired]


def _cpu_types() -> list[MachineType]:
    small = [MachineType("DEV1-S", frozenset(), "0.0091"), MachineType("DEV1-M", frozenset(), "0.0204")]
    return small + [MachineType(f"POP2-{number}C", frozenset(), "0.0735") for number in range(1, _OTHERS)]
