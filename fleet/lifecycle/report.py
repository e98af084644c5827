"""How the places stand, for people: what was listed there, what leaks, what was done about it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet

from fleet.lifecycle import brake, places
from fleet.models import Leak, Sweep


@dataclass(frozen=True, slots=True)
class Scope:
    """Which places somebody asks about; all of them where neither a provider nor a zone is named."""

    providers: frozenset[str] = frozenset()
    zones: frozenset[str] = frozenset()

    def places(self) -> Sequence[Sweep]:
        rows = Sweep.objects.select_related("account", "zone__region__provider")
        rows = rows.order_by("zone__region__provider__name", "zone__name", "account__name")
        return [place for place in rows if self.covers(place)]

    def covers(self, place: Sweep) -> bool:
        provider = place.zone.region.provider.name
        return (not self.providers or provider in self.providers) and (not self.zones or place.zone.name in self.zones)


@dataclass(frozen=True, slots=True)
class Standing:
    place: str
    servers: int  # of ours, in the last whole listing
    trouble: str  # with the last listing; empty: it was whole
    leaking: int  # things that nobody claims
    ended: int  # of those, gone or claimed after all, since the report begins
    braked: int  # of those that leak, how many wait for an operator

    @property
    def is_well(self) -> bool:
        return not (self.trouble or self.leaking)


def standing(place: Sweep, *, since: datetime) -> Standing:
    return Standing(
        place=places.name_of(place),
        servers=place.servers,
        trouble=place.last_error or ("" if place.swept_at else "not listed yet"),
        leaking=leaks_in(place).filter(ended_at=None).count(),
        ended=leaks_in(place).filter(ended_at__gte=since).count(),
        braked=len(held_by_the_brake(place)),
    )


def leaks_in(place: Sweep) -> QuerySet[Leak]:
    return Leak.objects.filter(rental__account=place.account_id, rental__zone=place.zone_id)


def held_by_the_brake(place: Sweep) -> Sequence[uuid.UUID]:
    """Leaks there that wait for an operator, as far as they are known now."""
    if not brake.on(account_id=place.account_id, zone_id=place.zone_id):
        return []
    return list(leaks_in(place).filter(brake.WAITING).values_list("pk", flat=True))
