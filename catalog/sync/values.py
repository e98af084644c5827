"""What a provider said, as the catalogue takes it, and what a sync made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.exceptions import ValidationError

from catalog.models import InstanceAvailability, InstanceType

_DEEDS = ("created", "updated", "kept", "vanished", "returned", "skipped")  # of a report
_SMALLEST = Decimal("0.000001")  # of a price column


@dataclass(frozen=True, slots=True)
class Place:
    """A zone by the provider's own names."""

    provider: str
    region: str
    zone: str


@dataclass(frozen=True, slots=True)
class SeenOffer:
    """A GPU type that a provider lists in a zone."""

    instance_type: str
    gpu_name: str
    gpu_count: int
    vram_per_gpu_gb: int  # as on the vendor's label
    price_per_hour: Decimal | None  # None: the provider could not be asked
    currency: str  # ISO 4217, of both prices
    stock: str  # available | scarce | shortage | unknown
    spot_price_per_hour: Decimal | None = None

    def type_facts(self) -> dict[str, Any]:
        """By the columns of `InstanceType`."""
        return {
            "gpu_name": self.gpu_name,
            "gpu_count": self.gpu_count,
            "vram_per_gpu_gb": self.vram_per_gpu_gb,
        }

    def price_facts(self) -> dict[str, Any]:
        """By the columns of `InstanceAvailability`. A price that could not be asked for is not among them."""
        facts: dict[str, Any] = {}
        if self.price_per_hour is not None:
            facts |= {"price_per_hour": _rounded(self.price_per_hour), "currency": self.currency}
        if self.spot_price_per_hour is not None:
            facts["spot_price_per_hour"] = _rounded(self.spot_price_per_hour)
        elif facts:
            facts["spot_price_per_hour"] = None  # one that can be asked for prices, and names none for spot
        return facts

    def fault(self) -> str | None:
        """Why the catalogue can't have it, in words; None: it can."""
        kind = InstanceType(name=self.instance_type, **self.type_facts())
        row = InstanceAvailability(**{"currency": self.currency, **self.price_facts(), "stock": self.stock})
        unknown_price = {"price_per_hour"} if self.price_per_hour is None else set()
        try:
            kind.clean_fields(exclude={"provider"})
            row.clean_fields(exclude={"instance_type", "zone", *unknown_price})
        except ValidationError as error:
            return "; ".join(f"{column}: {' '.join(words)}" for column, words in error.message_dict.items())
        return None


@dataclass(frozen=True, slots=True)
class Report:
    """What a sync of a zone did, a line of words for each row; of the list of zones, where `zone` is empty."""

    provider: str
    zone: str = ""
    listed: int = 0  # what the provider listed
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()  # edited by hand, against the provider's word
    vanished: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()  # listed, and could not be taken over
    error: str = ""  # why the provider's answer could not be had; nothing was changed then

    def counts(self) -> dict[str, int]:
        return {what: len(getattr(self, what)) for what in _DEEDS}

    def lines(self) -> Iterator[str]:
        for what in _DEEDS:
            for words in getattr(self, what):
                yield f"{what}: {words}"


@dataclass(slots=True)
class Notes:
    """A report while it is being written."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def report(self, provider: str, *, zone: str = "", listed: int) -> Report:
        return Report(
            provider,
            zone=zone,
            listed=listed,
            created=tuple(self.created),
            updated=tuple(self.updated),
            kept=tuple(self.kept),
            vanished=tuple(self.vanished),
            returned=tuple(self.returned),
            skipped=tuple(self.skipped),
        )


def _rounded(price: Decimal) -> Decimal:
    try:
        return price.quantize(_SMALLEST)
    except InvalidOperation:
        return price  # endless, or with more digits than can be: the column's validators say so
