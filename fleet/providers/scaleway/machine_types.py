"""The machine types of a zone, their prices and their stock."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from fleet.providers.base import Location, MachineOffer, Stock
from fleet.providers.scaleway import listing, prices
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import text
from fleet.providers.scaleway.exchange import Json

_GIB = 2**30
_NAME = re.compile(r"(?P<gpu>.+)-\d+-(?P<vram>\d+)G")  # H100-SXM-2-80G says more than the API's "H100"
_STOCK = {stock.value: stock for stock in Stock}


def of_zone(account: Account, location: Location) -> dict[str, Json]:
    """By name, all of them: CPU machines too, and those that are no longer sold."""
    return listing.take(account.instance, _path(location), key="servers", size="per_page", params={}).whole()


def offers(account: Account, location: Location) -> tuple[MachineOffer, ...]:
    """What has GPUs and is still sold. One whose memory is not said is left out: nothing can be placed on it."""
    types = of_zone(account, location)
    stocks = listing.take(
        account.instance, f"{_path(location)}/availability", key="servers", size="per_page", params={}
    ).whole()
    sold = (
        _offer(name, entry, _STOCK.get(text(stocks.get(name, {}).get("availability")), Stock.UNKNOWN), location)
        for name, entry in types.items()
        if not entry.get("end_of_service")
    )
    return tuple(offer for offer in sold if offer.gpu_count and offer.vram_per_gpu_gb)


def scratch_bytes(entry: Json) -> int:
    """The largest scratch volume that a machine of the type can have; 0: none."""
    return _whole(entry.get("scratch_storage_max_size"))


def _offer(name: str, entry: Json, stock: Stock, location: Location) -> MachineOffer:
    info = entry.get("gpu_info")
    info = info if isinstance(info, dict) else {}
    named = _NAME.fullmatch(name)
    return MachineOffer(
        instance_type=name,
        location=location,
        gpu_name=named["gpu"] if named else text(info.get("gpu_name")) or name,
        gpu_count=_whole(entry.get("gpu")),
        vram_per_gpu_gb=_label_gb(_whole(info.get("gpu_memory"))) or (int(named["vram"]) if named else 0),
        price_per_hour=_price(entry.get("hourly_price")),
        currency=prices.CURRENCY,
        stock=stock,
    )


def _label_gb(size: int) -> int:
    """As on the vendor's label, which counts in powers of two: 24 GB are 25769803776 bytes."""
    return size // _GIB if size % _GIB == 0 else round(size / 10**9)


def _price(value: object) -> Decimal | None:
    try:
        return Decimal(str(value)) if isinstance(value, int | float | str) and value else None
    except InvalidOperation:
        return None


def _whole(value: object) -> int:
    return max(value, 0) if isinstance(value, int) else 0


def _path(location: Location) -> str:
    return f"/instance/v1/zones/{location.zone}/products/servers"
