"""The instance types of a provider against what it lists."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db.models import Exists, OuterRef

from catalog import hand_edits
from catalog.gpu_support import unusable_because
from catalog.models import InstanceAvailability, InstanceType, Provider
from catalog.sync.columns import take_over
from catalog.sync.values import Notes, SeenOffer

_COLUMNS = hand_edits.COLUMNS[InstanceType]


def take_over_types(provider: Provider, seen: Mapping[str, SeenOffer], notes: Notes) -> dict[str, InstanceType]:
    """The types of what was seen, by name: created, updated or kept. Three queries."""
    types = InstanceType.objects.select_for_update(no_key=True).filter(provider=provider, name__in=seen)
    known = {row.name: row for row in types}
    new = {name: _new(provider, offer, notes) for name, offer in seen.items() if name not in known}
    changed = [row for row in known.values() if take_over(row, seen[row.name].type_facts(), name=row.name, notes=notes)]
    InstanceType.objects.bulk_create(new.values())
    InstanceType.objects.bulk_update(changed, [*_COLUMNS, "synced"])
    return {**known, **new}


def mark_types(provider: Provider, *, now: datetime) -> None:
    """A type has vanished when none of its offers is listed any more. One without offers was never listed."""
    offers = InstanceAvailability.objects.filter(instance_type=OuterRef("pk"))
    listed = Exists(offers.filter(vanished_at=None))
    types = InstanceType.objects.filter(provider=provider)
    types.filter(listed, vanished_at__isnull=False).update(vanished_at=None)
    types.filter(~listed, Exists(offers), vanished_at=None).update(vanished_at=now)


def _new(provider: Provider, offer: SeenOffer, notes: Notes) -> InstanceType:
    objection = unusable_because(offer.gpu_name)
    row = InstanceType(provider=provider, name=offer.instance_type, is_active=objection is None, **offer.type_facts())
    hand_edits.sign_new(row)
    gpus = f"{offer.gpu_count} x {offer.gpu_name} {offer.vram_per_gpu_gb} GB"
    notes.created.append(f"{row.name}, {gpus}" + (f", inactive: {objection}" if objection else ""))
    return row
