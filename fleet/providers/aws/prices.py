"""What AWS charges: by the Price List API for instances, by its published list for what hangs on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from fleet.providers.aws.clients import Clients
from fleet.providers.aws.errors import translated

if TYPE_CHECKING:
    from types_boto3_pricing.client import PricingClient
    from types_boto3_pricing.type_defs import FilterTypeDef

CURRENCY = "USD"

# https://aws.amazon.com/ebs/pricing/: gp3 in us-east-1, with the IOPS and the throughput that are included. EBS bills
# by the second of a month of 730 hours. Other regions cost up to twice that.
GP3_PER_GB_MONTH = Decimal("0.08")
HOURS_PER_MONTH = 730
# https://aws.amazon.com/vpc/pricing/: a public IPv4 address, in every region, in use or idle, since February 2024.
ADDRESS_PER_HOUR = Decimal("0.005")

_PRICES_HOLD_FOR = timedelta(days=1)
_SIX_PLACES = Decimal("0.000001")


def volume_per_hour(gigabytes: int) -> Decimal:
    return (GP3_PER_GB_MONTH * gigabytes / HOURS_PER_MONTH).quantize(_SIX_PLACES)


class PriceList:
    """AWS's prices on demand. Each is asked for once a day: the list has a call for each type, and hardly changes."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._known: dict[tuple[str, str], tuple[Decimal | None, datetime]] = {}

    def on_demand(self, region: str, instance_types: Iterable[str], *, now: datetime) -> Mapping[str, Decimal]:
        """USD an hour by type: Linux, shared tenancy, nothing preinstalled. A type without a price is not in it."""
        found = {name: self._price(region, name, now) for name in instance_types}
        return {name: price for name, price in found.items() if price is not None}

    def _price(self, region: str, instance_type: str, now: datetime) -> Decimal | None:
        price, asked_at = self._known.get((region, instance_type), (None, None))
        if asked_at is None or now > asked_at + _PRICES_HOLD_FOR:
            price = _price(self._clients.pricing(), region, instance_type)
            self._known[region, instance_type] = (price, now)
        return price


def _price(pricing: PricingClient, region: str, instance_type: str) -> Decimal | None:
    with translated():
        answer = pricing.get_products(ServiceCode="AmazonEC2", Filters=_filters(region, instance_type))
    prices = [price for product in answer.get("PriceList", []) for price in _prices_in(product)]
    return min(prices, default=None)


def _filters(region: str, instance_type: str) -> list[FilterTypeDef]:
    wanted = {
        "regionCode": region,
        "instanceType": instance_type,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    return [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in wanted.items()]


def _prices_in(product: str) -> list[Decimal]:
    """The hourly prices in a product of the list: a JSON document within the JSON answer."""
    terms: Mapping[str, Any] = json.loads(product).get("terms", {}).get("OnDemand", {})
    dimensions = [dimension for term in terms.values() for dimension in term.get("priceDimensions", {}).values()]
    amounts = [_amount(dimension) for dimension in dimensions if dimension.get("unit") == "Hrs"]
    # Capacity blocks are in the list at a price of zero.
    return [amount for amount in amounts if amount]


def _amount(dimension: Mapping[str, Any]) -> Decimal:
    try:
        return Decimal(dimension.get("pricePerUnit", {}).get(CURRENCY, "0"))
    except InvalidOperation:
        return Decimal(0)
