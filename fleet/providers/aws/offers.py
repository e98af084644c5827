"""What a zone has: GPU types with the vendor's figures, and their prices where these can be asked for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from fleet.providers.aws import prices
from fleet.providers.aws.errors import translated
from fleet.providers.aws.prices import PriceList
from fleet.providers.base import Location, MachineOffer, ProviderError, Stock

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import GpuDeviceInfoTypeDef, InstanceTypeInfoTypeDef

log = logging.getLogger(__name__)

_FAMILIES_WITH_NVIDIA = ("g", "p")  # AWS names its families so; the others need not be asked about
_ARCHITECTURE = "x86_64"  # of the image
_TYPES_PER_CALL = 100
_LINUX = ["Linux/UNIX", "Linux/UNIX (Amazon VPC)"]


def of(ec2: EC2Client, location: Location, price_list: PriceList, *, now: datetime) -> Sequence[MachineOffer]:
    machines = [(info, gpu) for info in _types(ec2, _names_in(ec2, location)) if (gpu := _gpu_of(info))]
    names = [info.get("InstanceType", "") for info, _ in machines]
    on_demand = _on_demand_prices(price_list, location, names, now=now)
    spot = _spot_prices(ec2, location, names, now=now)
    return tuple(
        MachineOffer(
            instance_type=name,
            location=location,
            gpu_name=_label(gpu),
            gpu_count=gpu.get("Count", 0),
            vram_per_gpu_gb=_vram_gb(gpu),
            price_per_hour=on_demand.get(name),
            currency=prices.CURRENCY,
            stock=Stock.UNKNOWN,  # only a create finds out
            spot_price_per_hour=spot.get(name),
        )
        for name, (_, gpu) in zip(names, machines, strict=True)
    )


def _names_in(ec2: EC2Client, location: Location) -> list[str]:
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "location", "Values": [location.zone]}]
    )
    with translated():
        names = [str(one.get("InstanceType", "")) for page in pages for one in page.get("InstanceTypeOfferings", [])]
    return sorted(name for name in names if name.startswith(_FAMILIES_WITH_NVIDIA))


def _types(ec2: EC2Client, names: Sequence[str]) -> list[InstanceTypeInfoTypeDef]:
    # As a filter: one name that the list of types does not have would refuse the call.
    batches = [list(names[start : start + _TYPES_PER_CALL]) for start in range(0, len(names), _TYPES_PER_CALL)]
    paginator = ec2.get_paginator("describe_instance_types")
    with translated():
        return [
            info
            for batch in batches
            for page in paginator.paginate(Filters=[{"Name": "instance-type", "Values": batch}])
            for info in page.get("InstanceTypes", [])
        ]


def _gpu_of(info: InstanceTypeInfoTypeDef) -> GpuDeviceInfoTypeDef | None:
    """The GPUs that a model can be served from; None for a type with none, or a part of one (g6f reports 0)."""
    if _ARCHITECTURE not in info.get("ProcessorInfo", {}).get("SupportedArchitectures", []):
        return None
    gpus = info.get("GpuInfo", {}).get("Gpus", [])
    return next((gpu for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA" and gpu.get("Count", 0) > 0), None)


def _label(gpu: GpuDeviceInfoTypeDef) -> str:
    """As in the catalogue: AWS calls both of its A100 by one name, and they are two offers."""
    name = gpu.get("Name", "")
    return f"A100-{_vram_gb(gpu)}" if name == "A100" else name


def _vram_gb(gpu: GpuDeviceInfoTypeDef) -> int:
    """As on the vendor's label.

    AWS turns the label of some into MiB as decimal GB (24 GB of an L4: 22888 MiB), of others as binary ones (80 GB of
    an H100: 81920 MiB), and reports what the driver sees of the newest (179 GiB of a B200: 183359 MiB).
    """
    mib = gpu.get("MemoryInfo", {}).get("SizeInMiB", 0)
    decimal_gb = mib * 2**20 / 1e9
    is_decimal = abs(decimal_gb - round(decimal_gb)) < 0.001
    return round(decimal_gb) if is_decimal else mib // 1024


def _on_demand_prices(
    price_list: PriceList, location: Location, names: Iterable[str], *, now: datetime
) -> Mapping[str, Decimal]:
    try:
        return price_list.on_demand(location.region, names, now=now)
    except ProviderError as error:
        log.warning("no prices from AWS's price list: %s", error)
        return {}


def _spot_prices(ec2: EC2Client, location: Location, names: Sequence[str], *, now: datetime) -> Mapping[str, Decimal]:
    if not names:
        return {}
    # From now on: that is the one price of each type that holds.
    pages = ec2.get_paginator("describe_spot_price_history").paginate(
        StartTime=now,
        ProductDescriptions=_LINUX,
        Filters=[
            {"Name": "availability-zone", "Values": [location.zone]},
            {"Name": "instance-type", "Values": list(names)},
        ],
    )
    try:
        with translated():
            found = [price for page in pages for price in page.get("SpotPriceHistory", [])]
    except ProviderError as error:
        log.warning("no spot prices of %s: %s", location.zone, error)
        return {}
    return {str(one.get("InstanceType", "")): Decimal(one.get("SpotPrice", "0")) for one in found}
