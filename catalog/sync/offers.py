"""The offers of a zone against what its provider lists there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from catalog import hand_edits
from catalog.models import InstanceAvailability, InstanceType, Zone
from catalog.models.instance_type import Stock
from catalog.sync.columns import take_over
from catalog.sync.values import Notes, SeenOffer

_PRICES = hand_edits.COLUMNS[InstanceAvailability]


def take_over_offers(
    zone: Zone,
    types: Mapping[str, InstanceType],
    seen: Mapping[str, SeenOffer],
    *,
    listed: Collection[str],
    now: datetime,
    notes: Notes,
) -> None:
    """Create, update, mark and unmark the offers of the zone. Three queries.

    `listed`: the names of all that was listed, also of what can't be taken over and so is not in `seen`.
    """
    rows = InstanceAvailability.objects.select_for_update(no_key=True, of=("self",)).filter(zone=zone)
    known = {row.instance_type.name: row for row in rows.select_related("instance_type")}
    changed = [row for name, row in known.items() if name in seen and _update(row, seen[name], notes)]
    changed += [row for name, row in known.items() if name not in listed and _mark(row, now, notes)]
    new = [
        _new(zone, types[name], offer, notes)
        for name, offer in seen.items()
        if name not in known and _has_price(offer, notes)
    ]
    for row in changed:
        row.updated_at = now  # bulk_update leaves it alone
    InstanceAvailability.objects.bulk_create(new)
    InstanceAvailability.objects.bulk_update(changed, [*_PRICES, "stock", "vanished_at", "synced", "updated_at"])


def _update(row: InstanceAvailability, offer: SeenOffer, notes: Notes) -> bool:
    came_back = row.vanished_at is not None
    if came_back:
        row.vanished_at = None
        notes.returned.append(offer.instance_type)
    # Not `or`: each of them has its effect.
    return any([came_back, _reprice(row, offer, notes), _restock(row, offer.stock, notes)])


def _reprice(row: InstanceAvailability, offer: SeenOffer, notes: Notes) -> bool:
    facts = offer.price_facts()
    if facts and offer.currency != row.currency and (offer.price_per_hour is None or hand_edits.edited(row)):
        # The prices share a currency: to change it beside a price that stays would make that another price.
        amount = f"{offer.price_per_hour or offer.spot_price_per_hour} {offer.currency}"
        notes.kept.append(f"{offer.instance_type}: stays in {row.currency}; the provider says {amount}")
        return False
    return take_over(row, facts, name=offer.instance_type, notes=notes)


def _restock(row: InstanceAvailability, stock: str, notes: Notes) -> bool:
    """The provider's word about its stock always counts. "Unknown" is none: it replaces only an earlier word."""
    if row.stock == stock or (stock == Stock.UNKNOWN and hand_edits.is_edited(row, "stock")):
        return False
    notes.updated.append(f"{row.instance_type.name}: stock {row.stock} -> {stock}")
    row.stock = stock
    hand_edits.sign(row, ["stock"])
    return True


def _mark(row: InstanceAvailability, now: datetime, notes: Notes) -> bool:
    if row.vanished_at is not None:
        return False
    row.vanished_at = now
    notes.vanished.append(row.instance_type.name)
    return True


def _has_price(offer: SeenOffer, notes: Notes) -> bool:
    """Without one there is nothing to rank: the offer is made when a price becomes known."""
    if offer.price_per_hour is None:
        notes.skipped.append(f"{offer.instance_type}: no price is known; set one by hand to offer it")
    return offer.price_per_hour is not None


def _new(zone: Zone, instance_type: InstanceType, offer: SeenOffer, notes: Notes) -> InstanceAvailability:
    row = InstanceAvailability(instance_type=instance_type, zone=zone, stock=offer.stock, **offer.price_facts())
    hand_edits.sign_new(row)
    notes.created.append(f"{instance_type.name} in {zone.name} at {row.price_per_hour} {row.currency}")
    return row
