"""The comparison by itself: values in, values out."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fleet.lifecycle import inventory
from fleet.lifecycle.inventory import Claimant, Claims, Machine, Thing
from fleet.providers.base import (
    TAG_ATTEMPT,
    TAG_OWNER,
    Handle,
    Location,
    OwnedResources,
    Resource,
    ResourceKind,
    ServerState,
    ServerView,
)

HERE = Location("eu", "eu-1")
ATTEMPT = str(uuid.uuid4())
OURS = {TAG_OWNER: "inventiv", TAG_ATTEMPT: ATTEMPT}
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def claimant(*, server_id: str = "", attached: tuple[str, ...] = (), over: str = "") -> Claimant:
    return Claimant(ATTEMPT, over, server_id, frozenset(attached))


def server(server_id: str, tags: dict[str, str] = OURS) -> ServerView:
    return ServerView(Handle(server_id, HERE), ServerState.RUNNING, None, tags)


def volume(volume_id: str, tags: dict[str, str] = OURS, *, on: str = "") -> Resource:
    return Resource(ResourceKind.VOLUME, volume_id, HERE, Decimal(1), "EUR", tags, server_id=on)


def unowned(owned: OwnedResources, *claimants: Claimant) -> set[str]:
    return {found.thing.id for found in inventory.unowned(owned, "inventiv", Claims.of(claimants))}


def listing(*servers: ServerView, volumes: tuple[Resource, ...] = (), complete: bool = True) -> OwnedResources:
    return OwnedResources(servers, volumes, (), complete)


@pytest.mark.parametrize(
    ("claimants", "nobodys"),
    [
        ([], {"srv-1"}),
        ([claimant()], set()),  # its create may be under way
        ([claimant(server_id="srv-1")], set()),
        ([claimant(server_id="srv-2")], {"srv-1"}),
        ([claimant(over="its attempt is over")], {"srv-1"}),
        ([claimant(over="its attempt is over", server_id="srv-1")], {"srv-1"}),
    ],
)
def test_a_machine_is_claimed_by_a_live_attempt_that_has_no_other(claimants: list[Claimant], nobodys: set[str]) -> None:
    assert unowned(listing(server("srv-1")), *claimants) == nobodys


def test_a_machine_whose_tag_was_lost_is_claimed_by_the_row_that_knows_it() -> None:
    assert unowned(listing(server("srv-1", {TAG_OWNER: "inventiv"})), claimant(server_id="srv-1")) == set()


def test_a_tag_is_read_however_it_is_spelt() -> None:
    shouted = {TAG_OWNER: "inventiv", TAG_ATTEMPT: ATTEMPT.upper()}
    assert unowned(listing(server("srv-1", shouted)), claimant()) == set()


@pytest.mark.parametrize(
    ("hangs_on", "who", "nobodys"),
    [
        ("srv-1", claimant(server_id="srv-1"), False),
        ("srv-2", claimant(server_id="srv-1"), True),  # on the attempt's second machine
        ("srv-2", claimant(), False),  # on one whose create is under way
        ("", claimant(server_id="srv-1"), False),  # not yet attached
        ("", claimant(over="its attempt is over"), True),
        ("srv-2", claimant(server_id="srv-1", attached=("vol-1",)), False),
    ],
)
def test_a_volume_is_claimed_with_its_machine_or_by_its_attempt(hangs_on: str, who: Claimant, nobodys: bool) -> None:
    owned = listing(volumes=(volume("vol-1", on=hangs_on),))
    assert unowned(owned, who) == ({"vol-1"} if nobodys else set())


def test_an_untagged_disk_of_an_unowned_machine_is_found_with_it() -> None:
    owned = listing(server("srv-1"), volumes=(volume("vol-1", {}, on="srv-1"),))
    assert unowned(owned) == {"srv-1", "vol-1"}


def test_what_is_not_ours_is_left_alone_even_if_a_driver_lists_it() -> None:
    theirs = {TAG_OWNER: "another", TAG_ATTEMPT: ATTEMPT}
    owned = listing(
        server("srv-1", theirs),
        server("srv-2"),
        volumes=(volume("vol-1", theirs), volume("vol-2", {}, on="srv-1"), volume("vol-3", theirs, on="srv-2")),
    )
    assert unowned(owned, claimant(server_id="srv-2")) == set()
    assert unowned(owned) == {"srv-2"}


# --- the roll -------------------------------------------------------------------------------------------------------


def machines(*server_ids: str, asked_at: datetime = AT - timedelta(hours=1)) -> list[Machine]:
    return [Machine(uuid.uuid4(), uuid.uuid4(), server_id, asked_at, 0) for server_id in server_ids]


def missing(rows: list[Machine], owned: OwnedResources, *, lag: float = 0) -> set[str]:
    roll = inventory.call_roll(rows, owned, at=AT, lag=timedelta(seconds=lag))
    return {machine.server_id for machine in roll.missing}


def test_what_a_whole_listing_lacks_is_missing() -> None:
    assert missing(machines("srv-1", "srv-2"), listing(server("srv-1"))) == {"srv-2"}
    assert missing(machines("srv-1", "srv-2"), listing(server("srv-1"), complete=False)) == set()


def test_what_is_as_new_as_listings_are_late_is_not() -> None:
    new = machines("srv-1", asked_at=AT - timedelta(seconds=59))
    assert missing(new, listing(), lag=60) == set()
    assert missing(new, listing(), lag=59) == {"srv-1"}


@pytest.mark.parametrize(
    ("known", "listed", "doubted"), [(2, 0, False), (3, 0, True), (6, 3, False), (5, 2, True), (100, 98, False)]
)
def test_most_of_them_at_once_is_doubted(known: int, listed: int, doubted: bool) -> None:
    rows = machines(*(f"srv-{number}" for number in range(known)))
    owned = listing(*(server(f"srv-{number}") for number in range(listed)))
    roll = inventory.call_roll(rows, owned, at=AT, lag=timedelta(0))
    assert bool(roll.doubt) is doubted
    assert len(roll.missing) == (0 if doubted else known - listed)


def test_a_thing_that_hangs_on_nothing_listed_has_its_own_tag() -> None:
    (found,) = inventory.unowned(listing(volumes=(volume("vol-1", on="srv-9"),)), "inventiv", Claims.of([]))
    assert found.thing == Thing(ResourceKind.VOLUME, "vol-1", ATTEMPT, "srv-9")
