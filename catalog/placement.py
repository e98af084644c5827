"""Which offers a model can be placed on, best first, and for every other one the reason why not.

Pure functions on values: the caller brings the offers (`catalog.offers`) and the limits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from catalog import currency
from catalog.fit import Fit, InvalidRequest, ModelNeed, measure, meets_floor

_STOCK_RANK = {"available": 0, "scarce": 1, "unknown": 2}
_SHORTAGE = "shortage"


@dataclass(frozen=True, slots=True)
class Offer:
    """An instance type in a zone, at a price, with its stock."""

    provider: str
    region: str
    zone: str
    instance_type: str
    gpu_name: str
    gpu_count: int
    vram_per_gpu_gb: int
    price_per_hour: Decimal
    currency: str  # ISO 4217
    stock: str  # available | scarce | shortage | unknown
    active: bool = True  # whether the operator wants new machines of this type
    enabled: bool = True  # whether this installation may rent from the provider
    spot: bool = False  # the price is that of a machine which the provider may take back
    spot_price_per_hour: Decimal | None = None  # what such a machine costs; None: the provider rents none
    vanished_at: datetime | None = None  # since when the provider no longer lists it
    last_success_at: datetime | None = None  # what our own tries taught; None: nothing
    last_stockout_at: datetime | None = None

    @property
    def vram_gb(self) -> int:
        return self.gpu_count * self.vram_per_gpu_gb

    @property
    def was_sold_out(self) -> bool:
        """Whether our last try that tells of its stock was in vain."""
        if self.last_stockout_at is None:
            return False
        return self.last_success_at is None or self.last_success_at < self.last_stockout_at


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a model may be placed, by the providers' own names. Empty: anywhere. No price: any price."""

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    max_price_per_hour: Decimal | None = None
    currency: str = currency.REFERENCE  # of the price
    spot: bool = False  # ask for machines that the provider may take back, and for no others

    def to_json(self) -> dict[str, Any]:
        return _row(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Limits:
        price = data.get("max_price_per_hour")
        return cls(
            **{name: tuple(data.get(name, ())) for name in ("providers", "regions", "zones", "instance_types")},
            max_price_per_hour=None if price is None else Decimal(price),
            currency=data.get("currency", currency.REFERENCE),
            spot=data.get("spot", False),
        )


@dataclass(frozen=True, slots=True)
class RankedOffer:
    """An offer that fits. GB (10**9 bytes), over the `tensor_parallel_size` GPUs that the engine spans."""

    offer: Offer
    tensor_parallel_size: int
    vram_needed_gb: float  # weights and KV cache
    weights_gb: float
    kv_cache_gb: float
    vram_available_gb: float  # for weights and KV cache: the engine keeps a share of each GPU for itself


@dataclass(frozen=True, slots=True)
class RejectedOffer:
    offer: Offer
    reason: str  # for people
    code: str  # for programs; the codes are those in `plan`


@dataclass(frozen=True, slots=True)
class Plan:
    ranked: tuple[RankedOffer, ...]
    rejected: tuple[RejectedOffer, ...]

    def walk(self) -> tuple[RankedOffer, ...]:
        """The order in which the offers are tried: the best one's type in all its zones, then the types of its
        provider that are as large (VRAM of all GPUs) or larger, then its smaller ones, then other providers; among
        each, as ranked. The smaller ones hold the model too, but cost no less than the best: a larger machine is
        the better buy."""
        if not self.ranked:
            return ()
        best = self.ranked[0].offer

        def distance(row: RankedOffer) -> tuple[bool, bool, bool]:
            offer = row.offer
            if offer.provider != best.provider:
                return True, False, False
            return False, offer.instance_type != best.instance_type, offer.vram_gb < best.vram_gb

        return tuple(sorted(self.ranked, key=distance))

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `json.dumps`: prices and instants are strings. `from_json` gives the equal plan back."""
        return _row(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        return cls(
            ranked=tuple(RankedOffer(**{**row, "offer": _offer(row["offer"])}) for row in data["ranked"]),
            rejected=tuple(RejectedOffer(**{**row, "offer": _offer(row["offer"])}) for row in data["rejected"]),
        )


def plan(need: ModelNeed, offers: Iterable[Offer], limits: Limits) -> Plan:
    """Rank the offers; leave out those that can't be had, each with its first reason.

    The rank, a total order: by price (converted to one currency); at the same price, by what is known of the stock:

    1. offers that our own last try did not find sold out, before those that it did (`Offer.was_sold_out`);
    2. the provider's word: available, scarce, unknown;
    3. those that we rented last, the latest first, before those that we never rented;
    4. by name: provider, region, zone, type.

    A stockout of a moment ago does more: the walk leaves its offer alone for a while (`fleet.lifecycle.stock`).

    Where the limits ask for spot, each offer that has a spot price takes part at that price, with `spot` set;
    otherwise spot prices play no role.

    Reasons, lasting ones first: `provider_not_enabled`, `inactive`, `vanished`, `provider_not_asked`,
    `region_not_asked`, `zone_not_asked`, `instance_type_not_asked`, `no_spot`, `unknown_currency`, `too_expensive`,
    `below_floor`, `weights_too_large`, `cache_too_large`, `out_of_stock`.

    Raises InvalidRequest for limits that no offer can meet by their names alone (see `check`).
    """
    known = tuple(offers)
    check(limits, known)
    ranked: list[RankedOffer] = []
    rejected: list[RejectedOffer] = []
    for offer in (_as_asked(offer, limits) for offer in known):
        fit = measure(need, gpu_count=offer.gpu_count, vram_per_gpu_gb=offer.vram_per_gpu_gb)
        objection = _objection(offer, need, limits, fit)
        if objection is None:
            ranked.append(_ranked(offer, fit))
        else:
            code, reason = objection
            rejected.append(RejectedOffer(offer, reason, code))
    return Plan(
        ranked=tuple(sorted(ranked, key=lambda row: _order(row.offer))),
        rejected=tuple(sorted(rejected, key=lambda row: _name(row.offer))),
    )


def check(limits: Limits, offers: Sequence[Offer]) -> None:
    """Raises InvalidRequest for a name that the catalogue does not have, or not together with the other limits.

    A zone of another provider is such a mistake; an offer that is merely dear or out of stock is none.
    """
    if not currency.is_known(limits.currency):
        known = ", ".join(sorted(currency.UNITS_PER_REFERENCE))
        raise InvalidRequest("currency", f"{limits.currency} is not among the known currencies: {known}")
    if limits.max_price_per_hour is not None and not limits.max_price_per_hour >= 0:
        raise InvalidRequest("max_price_per_hour", "must not be negative")
    left = list(offers)
    for field, singular, of in _NAMES:
        asked = getattr(limits, field)
        if not asked:
            continue
        within = [offer for offer in left if of(offer) in asked]
        for name in asked:
            if not any(of(offer) == name for offer in within):
                raise InvalidRequest(field, _stranger(singular, name, [offer for offer in offers if of(offer) == name]))
        left = within


_NAMES: tuple[tuple[str, str, Callable[[Offer], str]], ...] = (
    ("providers", "provider", lambda offer: offer.provider),
    ("regions", "region", lambda offer: offer.region),
    ("zones", "zone", lambda offer: offer.zone),
    ("instance_types", "instance type", lambda offer: offer.instance_type),
)


def _stranger(singular: str, name: str, elsewhere: list[Offer]) -> str:
    if not elsewhere:
        return f"there is no offer with {singular} {name}"
    where = ", ".join(sorted({f"{offer.provider}/{offer.region}" for offer in elsewhere}))
    return f"{singular} {name} is at {where}, outside of the other limits"


def _as_asked(offer: Offer, limits: Limits) -> Offer:
    """At its spot price where spot is asked for; an offer that has none stays what it is, to be rejected."""
    if not limits.spot or offer.spot_price_per_hour is None:
        return offer
    return dataclasses.replace(offer, price_per_hour=offer.spot_price_per_hour, spot=True)


def _objection(offer: Offer, need: ModelNeed, limits: Limits, fit: Fit) -> tuple[str, str] | None:
    """The first thing (code, sentence) that speaks against the offer."""
    return _not_wanted(offer, limits) or _too_dear(offer, limits) or _too_small(offer, need, fit) or _sold_out(offer)


def _not_wanted(offer: Offer, limits: Limits) -> tuple[str, str] | None:
    if not offer.enabled:
        return "provider_not_enabled", f"provider {offer.provider} is not enabled"
    if not offer.active:
        return "inactive", f"instance type {offer.instance_type} is inactive"
    if offer.vanished_at is not None:
        since = f"{offer.vanished_at:%Y-%m-%d %H:%M} UTC"
        return "vanished", f"{offer.provider} no longer lists {offer.instance_type} in {offer.zone}, since {since}"
    for field, singular, of in _NAMES:
        asked = getattr(limits, field)
        if asked and of(offer) not in asked:
            code = singular.replace(" ", "_") + "_not_asked"
            return code, f"{singular} {of(offer)} is not among the {field.replace('_', ' ')} asked for"
    if limits.spot and not offer.spot:
        return "no_spot", f"{offer.provider} rents no {offer.instance_type} in {offer.zone} as a spot machine"
    return None


def _too_dear(offer: Offer, limits: Limits) -> tuple[str, str] | None:
    if not currency.is_known(offer.currency):
        return "unknown_currency", f"its price is in {offer.currency}, which can't be compared with the others"
    limit = limits.max_price_per_hour
    if limit is None or currency.convert(offer.price_per_hour, offer.currency, to=limits.currency) <= limit:
        return None
    price, allowed = _amount(offer.price_per_hour), _amount(limit)
    return "too_expensive", f"costs {price} {offer.currency}/h, more than the {allowed} {limits.currency}/h allowed"


def _too_small(offer: Offer, need: ModelNeed, fit: Fit) -> tuple[str, str] | None:
    if not meets_floor(need, gpu_count=offer.gpu_count, vram_per_gpu_gb=offer.vram_per_gpu_gb):
        return "below_floor", f"the model requires {need.required_vram_gb} GB of VRAM, this type has {offer.vram_gb} GB"
    if fit.fits:
        return None
    room = f"this type has {offer.vram_gb} GB, of which the engine can use {fit.vram_available_gb:.1f} GB"
    if fit.tensor_parallel_size < offer.gpu_count:
        room += f" on {fit.tensor_parallel_size} of its {offer.gpu_count} GPUs (the model's heads split no further)"
    if not fit.holds_weights:
        return "weights_too_large", f"needs {fit.weights_gb:.1f} GB for weights, {room}"
    return "cache_too_large", (
        f"needs {fit.weights_gb:.1f} GB for weights and {fit.kv_cache_gb:.1f} GB for the KV cache of {need.concurrency}"
        f" x {need.context_length} tokens, {room}: enough for {_count(fit.sequences or 0)}"
    )


def _count(sequences: int) -> str:
    return "1 such sequence" if sequences == 1 else f"{sequences} such sequences"


def _sold_out(offer: Offer) -> tuple[str, str] | None:
    return ("out_of_stock", "out of stock") if offer.stock == _SHORTAGE else None


def _ranked(offer: Offer, fit: Fit) -> RankedOffer:
    return RankedOffer(
        offer=offer,
        tensor_parallel_size=fit.tensor_parallel_size,
        vram_needed_gb=round(fit.vram_needed_gb, 2),
        weights_gb=round(fit.weights_gb, 2),
        kv_cache_gb=round(fit.kv_cache_gb, 2),
        vram_available_gb=round(fit.vram_available_gb, 2),
    )


def _order(offer: Offer) -> tuple[Decimal, bool, int, float, tuple[str, ...]]:
    price = currency.convert(offer.price_per_hour, offer.currency, to=currency.REFERENCE)
    last_success = 0.0 if offer.last_success_at is None else offer.last_success_at.timestamp()
    return price, offer.was_sold_out, _STOCK_RANK[offer.stock], -last_success, _name(offer)


def _name(offer: Offer) -> tuple[str, ...]:
    return offer.provider, offer.region, offer.zone, offer.instance_type


def _amount(price: Decimal) -> str:
    """Without the zeros that a column's scale adds: 5.733000 reads 5.733, 6.300000 reads 6.30."""
    short = price.normalize()
    return f"{price:.2f}" if short == price.quantize(Decimal("0.01")) else f"{short:f}"


_PRICES = ("price_per_hour", "spot_price_per_hour")
_INSTANTS = ("vanished_at", "last_success_at", "last_stockout_at")


def _offer(data: dict[str, Any]) -> Offer:
    """A plan that was stored before a column was known lacks it, and has its default."""
    prices = {name: Decimal(data[name]) for name in _PRICES if data.get(name) is not None}
    instants = {name: datetime.fromisoformat(data[name]) for name in _INSTANTS if data.get(name) is not None}
    return Offer(**{**data, **prices, **instants})


def _row(value: Limits | Plan) -> dict[str, Any]:
    return {name: _plain(item) for name, item in dataclasses.asdict(value).items()}


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return str(value)
        case datetime():
            return value.isoformat()
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case tuple() | list():
            return [_plain(item) for item in value]
        case _:
            return value
