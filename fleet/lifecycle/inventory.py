"""What is in a listing against what the rows claim, and back. Values in, values out: nothing is asked or written here.

The claims must have been read after the listing. A row is committed before its machine is asked for, so a machine
that was listed had its row by then, whoever was slow in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.providers.base import TAG_ATTEMPT, TAG_OWNER, OwnedResources, Resource, ResourceKind, ServerView

# So many of a place's machines, and more than half of them, missing at once: our own fault first.
_WAVE = 3


@dataclass(frozen=True, slots=True)
class Thing:
    """Something with our tags at a provider, as far as a claim to it depends on."""

    kind: ResourceKind
    id: str
    tag: str = ""  # the attempt that its tag names, or that of the machine it hangs on
    server_id: str = ""  # the machine that it hangs on


@dataclass(frozen=True, slots=True)
class Claimant:
    """An attempt, as far as it can claim a thing."""

    attempt_id: str
    over: str  # why it claims nothing (any more); empty: its machine may exist, and somebody is in charge of it
    server_id: str
    attached: frozenset[str]  # volumes and addresses


@dataclass(frozen=True, slots=True)
class Unowned:
    """A thing that no live row claims."""

    thing: Thing
    reason: str
    resource: ServerView | Resource

    @property
    def created_at(self) -> datetime | None:
        return self.resource.created_at


@dataclass(frozen=True, slots=True)
class Claims:
    """Who claims what. Whose account the machine was listed through does not matter: two may share credentials."""

    _by_id: Mapping[str, Claimant]
    _servers: Mapping[str, str]  # to the attempt that has written it down as its own
    _attached: Mapping[str, str]  # volumes and addresses, likewise

    @classmethod
    def of(cls, claimants: Iterable[Claimant]) -> Claims:
        everybody = list(claimants)
        live = [claimant for claimant in everybody if not claimant.over]
        return cls(
            {claimant.attempt_id: claimant for claimant in everybody},
            {claimant.server_id: claimant.attempt_id for claimant in live if claimant.server_id},
            {resource: claimant.attempt_id for claimant in live for resource in claimant.attached},
        )

    def holds(self, resource_id: str) -> bool:
        """Whether a live attempt has written down the volume or address as its own."""
        return resource_id in self._attached

    def why_unowned(self, thing: Thing) -> str:
        """In words, why nobody claims it; empty if somebody does."""
        if thing.kind is ResourceKind.SERVER:
            return self._why_no_server(thing.id, thing.tag)
        if self.holds(thing.id):
            return ""
        if not thing.server_id:
            return self._why_not_live(thing.tag)
        why = self._why_no_server(thing.server_id, thing.tag)
        return f"it hangs on the machine {thing.server_id}: {why}" if why else ""

    def claimant_of(self, thing: Thing) -> str:
        """The attempt that claims it. Only of what is claimed."""
        if thing.kind is ResourceKind.SERVER:
            return self._servers.get(thing.id, thing.tag)
        return self._attached.get(thing.id) or self._servers.get(thing.server_id, thing.tag)

    def _why_no_server(self, server_id: str, tag: str) -> str:
        if server_id in self._servers:
            return ""
        why = self._why_not_live(tag)
        if why:
            return why
        # Its create may be under way, or its answer lost, until the attempt has a machine written down.
        other = self._by_id[tag].server_id
        return f"another machine ({other}) is this attempt's" if other else ""

    def _why_not_live(self, tag: str) -> str:
        if not tag:
            return "its tags name no attempt"
        claimant = self._by_id.get(tag)
        return f"there is no attempt {tag}" if claimant is None else claimant.over


def unowned(owned: OwnedResources, owner: str, claims: Claims) -> Sequence[Unowned]:
    """What carries the owner's tag and nobody claims: machines, what hangs on them, and what is left of others."""
    found = []
    for thing, resource in _things(owned, owner):
        reason = claims.why_unowned(thing)
        if reason:
            found.append(Unowned(thing, reason, resource))
    return found


def tags(owned: OwnedResources) -> frozenset[uuid.UUID]:
    """The attempts that anything listed names."""
    listed: list[ServerView | Resource] = [*owned.servers, *owned.volumes, *owned.ips]
    return frozenset(known for resource in listed if (known := attempt_id(_tag(resource))) is not None)


def attempt_id(tag: str) -> uuid.UUID | None:
    """None: no id of ours has ever looked like that."""
    try:
        return uuid.UUID(tag)
    except ValueError:
        return None


def _tag(resource: ServerView | Resource) -> str:
    """As we would write it: a provider may have changed the case."""
    tag = resource.tags.get(TAG_ATTEMPT, "")
    known = attempt_id(tag)
    return tag if known is None else str(known)


def _things(owned: OwnedResources, owner: str) -> Iterator[tuple[Thing, ServerView | Resource]]:
    """Each once. What is not ours is left out here too: were a driver's filter wrong, others' machines would die."""
    ours = {view.handle.server_id: view for view in owned.servers if view.tags.get(TAG_OWNER) == owner}
    for server_id, view in ours.items():
        yield Thing(ResourceKind.SERVER, server_id, _tag(view)), view
    hanging = (thing for view in ours.values() for thing in view.attachments)
    seen = set()
    for resource in (*owned.volumes, *owned.ips, *hanging):
        if resource.id in seen or not _is_ours(resource, owner, ours):
            continue
        seen.add(resource.id)
        host = ours.get(resource.server_id)
        yield Thing(resource.kind, resource.id, _tag(host or resource), resource.server_id), resource


def _is_ours(resource: Resource, owner: str, ours: Mapping[str, ServerView]) -> bool:
    # A disk that a provider makes with the machine may carry no tag at all.
    return resource.tags.get(TAG_OWNER, owner if resource.server_id in ours else "") == owner


# --- rows against the listing -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that a row says to exist in the place."""

    attempt_id: uuid.UUID
    instance_id: uuid.UUID
    server_id: str
    asked_at: datetime
    missed: int  # whole listings in a row so far that did not have it


@dataclass(frozen=True, slots=True)
class Roll:
    """The machines that a listing had, and those that it ought to have had."""

    present: tuple[Machine, ...] = ()
    missing: tuple[Machine, ...] = ()
    doubt: str = ""  # why what is missing is not believed to be


def call_roll(machines: Iterable[Machine], owned: OwnedResources, *, at: datetime, lag: timedelta) -> Roll:
    """`at`: when the listing began; `lag`: for how long the provider may leave out what is new."""
    listed = {view.handle.server_id for view in owned.servers}
    everybody = list(machines)
    present = tuple(machine for machine in everybody if machine.server_id in listed)
    if not owned.complete:
        return Roll(present)
    missing = tuple(
        machine for machine in everybody if machine.server_id not in listed and at >= machine.asked_at + lag
    )
    expected = len(present) + len(missing)
    if len(missing) >= _WAVE and len(missing) * 2 > expected:
        doubt = (
            f"{len(missing)} of {expected} known machines are missing from the listing at once: none is believed lost"
        )
        return Roll(present, (), doubt)
    return Roll(present, missing)
