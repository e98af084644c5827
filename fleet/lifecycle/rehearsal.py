"""What a sweep would find and do in a place. Nothing is written, no lease is taken, nothing is destroyed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fleet.lifecycle import brake
from fleet.lifecycle.places import name_of
from fleet.lifecycle.report import leaks_in
from fleet.lifecycle.sweep import Look, look
from fleet.lifecycle.world import World
from fleet.models import Leak, Sweep
from fleet.providers.base import ProviderError


@dataclass(frozen=True, slots=True)
class Rehearsal:
    place: str
    servers: int
    trouble: str  # why the listing proves nothing missing; empty: it was whole
    leaking: int
    intentions: tuple[str, ...]  # in words, one a line

    @property
    def is_well(self) -> bool:
        return not (self.trouble or self.leaking)


def rehearse(place: Sweep, world: World) -> Rehearsal:
    known = list(leaks_in(place).filter(ended_at=None).select_related("rental"))
    intentions = list(_destructions(place, known))
    try:
        seen = look(place, world)
    except ProviderError as error:
        return Rehearsal(name_of(place), 0, f"{error.code}: {error}", len(known), tuple(intentions))
    found = list(_findings(seen, {(leak.rental.kind, leak.rental.resource_id) for leak in known}))
    return Rehearsal(
        place=name_of(place),
        servers=len(seen.owned.servers),
        trouble=seen.trouble,
        leaking=len(known) + len(found),
        intentions=(*intentions, *found, *_questions(seen)),
    )


def _destructions(place: Sweep, known: list[Leak]) -> Iterator[str]:
    held = brake.on(account_id=place.account_id, zone_id=place.zone_id)
    for leak in known:
        waits = held if not (leak.steps or leak.approved_by) else ""
        yield f"{leak.rental}: " + (f"would wait: {waits}" if waits else f"would be destroyed: {leak.reason}")


def _findings(seen: Look, known: set[tuple[str, str]]) -> Iterator[str]:
    for unowned in seen.unowned:
        thing = unowned.thing
        if (thing.kind, thing.id) not in known:
            yield f"{thing.kind} {thing.id}: would be destroyed after the grace: {unowned.reason}"


def _questions(seen: Look) -> Iterator[str]:
    for machine in seen.roll.missing:
        yield f"server {machine.server_id}: is not listed; its provider would be asked for it if that repeats"
