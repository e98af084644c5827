"""Bugs, each of which the simulation must find. A simulation that lets one live proves nothing by its silence.

A mutant is the code with one mistake in it, of the kind that the known systems have made. `killed_by` plays a schedule
that breaks a law under it, and breaks none without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.conf import settings

from fleet.lifecycle import advance, attempts, claims, due, inventory, launch, leaks, ledger, sweep, termination
from fleet.lifecycle.places import location_of
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance
from fleet.providers.base import (
    ABSENT,
    GONE,
    TAG_OWNER,
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Destruction,
    Handle,
    OwnedResources,
    ProviderError,
    ServerSpec,
    ServerView,
    Unavailable,
)
from fleet.states import Status
from tests.simulation.clock import START
from tests.simulation.cloud import SimulatedCloud
from tests.simulation.director import CALM, Act, Chances, Named
from tests.simulation.schedule import Schedule

Patch = Callable[[pytest.MonkeyPatch], None]
Play = Callable[[], Schedule]


@dataclass(frozen=True, slots=True)
class Mutant:
    apply: Patch
    killed_by: Play

    def __str__(self) -> str:
        return self.apply.__name__.replace("_", " ")


# --- leases and messages ----------------------------------------------------------------------------------------------


def fence_removed(patch: pytest.MonkeyPatch) -> None:
    """A worker that was paused past its lease writes all the same."""
    move = Instance.move

    def unfenced_write(self: Instance, **fields: Any) -> None:
        Instance.objects.filter(pk=self.pk).update(**fields)
        vars(self).update(fields)

    def unfenced_move(self: Instance, new: Status, **kwargs: Any) -> bool:
        return move(self, new, **{**kwargs, "lease": None})

    patch.setattr(Instance, "write", unfenced_write)
    patch.setattr(Instance, "move", unfenced_move)


def lease_never_ends(patch: pytest.MonkeyPatch) -> None:
    """Who dies under a lease keeps it: its instance is never looked after again."""
    lease = Instance.lease

    def for_ever(pk: Any, *, now: datetime, seconds: float) -> Instance | None:
        return lease(pk, now=now, seconds=10**9)

    patch.setattr(Instance, "lease", staticmethod(for_ever))


def lost_messages_stay_lost(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for rows whose time has come: only the message wakes."""
    patch.setattr(due, "instances", lambda now: due.Instances((), ()))


# --- making -----------------------------------------------------------------------------------------------------------


def asked_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    """The provider is asked without a trace: a crash in the answer leaves a machine that nobody settles."""
    patch.setattr(launch, "note_asked", lambda *args, **kwargs: None)


def started_before_it_is_written(patch: pytest.MonkeyPatch) -> None:
    """Power-on before the ids are committed."""
    patch.setattr(launch, "remember", lambda instance, attempt, view, world: view)


def tagged_after_it_is_made(patch: pytest.MonkeyPatch) -> None:
    """A driver that tags in a second call: a crash between the two leaves a machine that nobody can find."""
    make, everything = SimulatedCloud._make, SimulatedCloud._everything
    bare: set[int] = set()

    def make_bare(self: SimulatedCloud, spec: ServerSpec) -> Any:
        machine = make(self, spec)
        bare.add(id(machine))
        self.director.at("tag")
        bare.discard(id(machine))
        return machine

    def without_bare(self: SimulatedCloud, location: Any) -> Any:
        return [machine for machine in everything(self, location) if id(machine) not in bare]

    patch.setattr(SimulatedCloud, "_make", make_bare)
    patch.setattr(SimulatedCloud, "_everything", without_bare)


def empty_listing_believed(patch: pytest.MonkeyPatch) -> None:
    """What is not listed at once was not made."""
    patch.setattr(SimulatedCloud, "listing_lag", property(lambda self: timedelta(0), lambda self, value: None))


def next_offer_after_a_time_out(patch: pytest.MonkeyPatch) -> None:
    """No answer is taken for a refusal."""
    ensure_server = SimulatedCloud.ensure_server

    def refused(self: SimulatedCloud, spec: ServerSpec) -> ServerView:
        try:
            return ensure_server(self, spec)
        except AmbiguousOutcome as error:
            raise CapacityError(str(error)) from error

    patch.setattr(SimulatedCloud, "ensure_server", refused)


# --- ending -----------------------------------------------------------------------------------------------------------


def terminated_on_an_error(patch: pytest.MonkeyPatch) -> None:
    """Whatever the provider answers to a delete, the machine is called gone."""
    step = attempts.destroy_step

    def or_gone(attempt: Attempt, world: World) -> Destruction:
        try:
            return step(attempt, world)
        except ProviderError:
            return GONE

    patch.setattr(termination, "destroy_step", or_gone)


def unauthorized_means_absent(patch: pytest.MonkeyPatch) -> None:
    """A driver that takes 401 for 404."""
    get, destroy_step = SimulatedCloud.get, SimulatedCloud.destroy_step

    def absent(self: SimulatedCloud, handle: Handle) -> Any:
        try:
            return get(self, handle)
        except AuthError:
            return ABSENT

    def gone(self: SimulatedCloud, handle: Handle) -> Destruction:
        try:
            return destroy_step(self, handle)
        except AuthError:
            return GONE

    patch.setattr(SimulatedCloud, "get", absent)
    patch.setattr(SimulatedCloud, "destroy_step", gone)


def not_yet_visible_means_gone(patch: pytest.MonkeyPatch) -> None:
    """ "Not found" a moment after the create is believed by the end of the instance."""

    def at_once(attempt: Attempt, world: World) -> Destruction:
        provider = attempts.provider_of(attempt, world)
        result = provider.destroy_step(attempt.handle(attempts.location_of(attempt)))
        ledger.end(attempt, remaining=result.remaining, now=world.now())
        return result

    patch.setattr(termination, "destroy_step", at_once)


def failed_is_not_destroyed(patch: pytest.MonkeyPatch) -> None:
    """What was given up is called terminated, and bills on."""

    def forget(instance: Instance, world: World) -> None:
        now = world.now()
        instance.move(Status.TERMINATED, reason="failed", actor="", at=now, terminated_at=now, next_attempt_at=None)

    patch.setitem(advance.STEPS, Status.FAILED, forget)


def gives_up_after_a_quarter_of_an_hour(patch: pytest.MonkeyPatch) -> None:
    """A delete that gets nowhere is called done (dstack #1551)."""
    destroyed = termination._destroyed

    def in_time(instance: Instance, attempt: Attempt, world: World) -> bool:
        late = world.now() > instance.status_changed_at + timedelta(seconds=settings.DESTROY_ALARM_AFTER)
        return destroyed(instance, attempt, world) or late

    patch.setattr(termination, "_destroyed", in_time)


def disks_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Only machines are destroyed, and only machines are looked for."""
    handle, things = Attempt.handle, inventory._things

    def without_disks(self: Attempt, location: Any) -> Handle:
        return replace(handle(self, location), volume_ids=())

    def only_servers(owned: OwnedResources, owner: str) -> Any:
        return [pair for pair in things(owned, owner) if pair[0].kind == "server"]

    patch.setattr(Attempt, "handle", without_disks)
    patch.setattr(inventory, "_things", only_servers)
    patch.setattr(
        leaks, "_handle", lambda leak, claimed: Handle(leak.rental.resource_id, location_of(leak.rental.zone))
    )


# --- sweeping ---------------------------------------------------------------------------------------------------------


def nobody_sweeps(patch: pytest.MonkeyPatch) -> None:
    """Rows are reconciled, the cloud's inventory is not."""
    patch.setattr(due, "sweeps", lambda now: [])


def collector_destroys_what_is_claimed(patch: pytest.MonkeyPatch) -> None:
    """Whatever is listed is nobody's."""
    patch.setattr(inventory.Claims, "why_unowned", lambda self, thing: "nobody's")


def collector_without_grace(patch: pytest.MonkeyPatch) -> None:
    """The rows are read first, then the cloud; and what is found is destroyed at once, without a second look."""

    def rows_first(place: Any, world: World) -> sweep.Look:
        region, at = place.zone.region, world.now()
        known = claims.read(region, tagged=list(Attempt.objects.values_list("pk", flat=True)), server_ids=[])
        provider = world.provider(region.provider.name, place.account_id)
        owned = provider.list_owned(location_of(place.zone), settings.INSTALLATION)
        found = inventory.unowned(owned, settings.INSTALLATION, known)
        return sweep.Look(at, provider.listing_lag, owned, found, inventory.Roll())

    patch.setattr(sweep, "look", rows_first)
    patch.setattr(settings, "RECONCILE_GRACE", 0)
    patch.setattr(leaks, "_claims", lambda leak: inventory.Claims.of([]))


def half_a_listing_believed(patch: pytest.MonkeyPatch) -> None:
    """What one listing lacks, whole or not, is lost at once (SkyPilot #4431)."""
    call_roll = inventory.call_roll

    def whole(machines: Any, owned: OwnedResources, *, at: datetime, lag: timedelta) -> inventory.Roll:
        return call_roll(machines, replace(owned, complete=True), at=at, lag=lag)

    def give_up(roll: inventory.Roll, now: datetime) -> None:
        missing = [machine.instance_id for machine in roll.missing]
        for instance in Instance.objects.filter(pk__in=missing, status=Status.READY):
            instance.move(Status.FAILED, reason="missing", actor="", at=now, next_attempt_at=now)

    patch.setattr(inventory, "call_roll", whole)
    patch.setattr(sweep, "_count", give_up)


def owner_ignored(patch: pytest.MonkeyPatch) -> None:
    """Another installation's machines are taken for ours that were forgotten."""
    list_owned, things = SimulatedCloud.list_owned, inventory._things

    def everybodys(self: SimulatedCloud, location: Any, owner: str) -> OwnedResources:
        ours, theirs = (list_owned(self, location, each) for each in (owner, "another"))
        return OwnedResources((*ours.servers, *theirs.servers), ours.volumes, (), ours.complete)

    def whoever(owned: OwnedResources, owner: str) -> Any:
        renamed = [replace(view, tags={**view.tags, TAG_OWNER: owner}) for view in owned.servers]
        return things(replace(owned, servers=tuple(renamed)), owner)

    patch.setattr(SimulatedCloud, "list_owned", everybodys)
    patch.setattr(inventory, "_things", whoever)


# --- the ledger -------------------------------------------------------------------------------------------------------


def ledger_knows_machines_only(patch: pytest.MonkeyPatch) -> None:
    """Disks cost nothing, by our books."""
    record = ledger.record

    def servers_only(attempt: Attempt, view: ServerView, *, now: datetime) -> None:
        record(attempt, replace(view, attachments=()), now=now)

    patch.setattr(ledger, "record", servers_only)


def ledger_ends_with_the_order(patch: pytest.MonkeyPatch) -> None:
    """What is to be destroyed is booked as gone."""

    def at_once(attempt: Attempt, *, remaining: Any, now: datetime) -> None:
        attempt.rentals.filter(until=None).update(until=now)

    patch.setattr(ledger, "end", at_once)


# --- what kills them --------------------------------------------------------------------------------------------------


def a_life(chances: Chances = CALM) -> Play:
    """A machine comes and goes; one appears that no row knows, and one that is somebody else's."""

    def play() -> Schedule:
        schedule = Schedule(0, chances=chances)
        schedule.at(0, schedule.deploy)
        schedule.at(20, schedule.somebody_rents_in_our_name)
        schedule.at(30, schedule.somebody_else_rents)
        schedule.at(100, schedule.terminate_all)
        return schedule.run(faults_end=300)

    return play


def a_death() -> Schedule:
    schedule = Schedule(0)
    schedule.at(0, schedule.deploy)
    schedule.at(60, schedule.a_machine_dies)
    return schedule.run(faults_end=300)


def an_end_while_the_cloud_refuses(error: ProviderError) -> Play:
    def play() -> Schedule:
        schedule = Schedule(0)
        schedule.at(0, schedule.deploy)
        schedule.at(299, lambda: schedule.cloud_refuses(error, lasts=timedelta(minutes=5)))
        schedule.at(300, schedule.terminate_all)
        return schedule.run(faults_end=700)

    return play


def an_end_of_what_is_hardly_made() -> Schedule:
    """The machine is not found for some seconds, while its instance is ended already."""
    schedule = Schedule(0, chances=Chances(late_get=1))
    schedule.at(0, schedule.deploy)
    schedule.at(0.5, schedule.terminate_all)
    return schedule.run(faults_end=60)


def held_up(act: Act, kind: str, point: str) -> Play:
    """A launch beside the first sweeps of two zones; the first two that come to the point are held up there."""

    def play() -> Schedule:
        schedule = Schedule(0, script={Named(kind, point, nth): act for nth in (0, 1)})
        schedule.at(5, schedule.deploy)
        return schedule.run(faults_end=300)

    return play


def stuck_for_half_an_hour() -> Schedule:
    schedule = Schedule(0)
    schedule.cloud.stuck_until = START + timedelta(minutes=30)
    schedule.at(0, schedule.deploy)
    schedule.at(100, schedule.terminate_all)
    return schedule.run(faults_end=2000)


def listed_by_halves() -> Schedule:
    schedule = Schedule(0, chances=Chances(partial_listing=1))
    schedule.at(0, schedule.deploy)
    return schedule.run(faults_end=600)


MUTANTS: Sequence[Mutant] = [
    Mutant(fence_removed, held_up(Act.LONG_PAUSE, "provision", "create")),
    Mutant(lease_never_ends, held_up(Act.KILL, "provision", "create")),
    Mutant(lost_messages_stay_lost, a_life(Chances(lose_message=1))),
    Mutant(asked_before_it_is_written, a_life()),
    Mutant(started_before_it_is_written, a_life()),
    Mutant(tagged_after_it_is_made, held_up(Act.KILL, "provision", "tag")),
    Mutant(empty_listing_believed, a_life(Chances(lose_answer=1, late_listing=1))),
    Mutant(next_offer_after_a_time_out, a_life(Chances(lose_answer=1))),
    Mutant(terminated_on_an_error, an_end_while_the_cloud_refuses(Unavailable("500"))),
    Mutant(unauthorized_means_absent, an_end_while_the_cloud_refuses(AuthError("401"))),
    Mutant(not_yet_visible_means_gone, an_end_of_what_is_hardly_made),
    Mutant(failed_is_not_destroyed, a_death),
    Mutant(gives_up_after_a_quarter_of_an_hour, stuck_for_half_an_hour),
    Mutant(disks_forgotten, a_life()),
    Mutant(nobody_sweeps, a_life()),
    Mutant(collector_destroys_what_is_claimed, a_life()),
    Mutant(collector_without_grace, held_up(Act.SHORT_PAUSE, "reconcile", "list")),
    Mutant(half_a_listing_believed, listed_by_halves),
    Mutant(owner_ignored, a_life()),
    Mutant(ledger_knows_machines_only, a_life()),
    Mutant(ledger_ends_with_the_order, a_life()),
]
