from __future__ import annotations

import uuid
from typing import Any

from catalog.models import InstanceAvailability, Provider, Region, Zone
from fleet.lifecycle import places
from fleet.models import Attempt, Outcome, ProviderAccount, Rental, Sweep
from fleet.states import Status
from tests.fleet.lifecycle.test_termination import end
from tests.fleet.stage import Stage


def known() -> set[tuple[str, str]]:
    """Account and zone, in words."""
    names: dict[uuid.UUID | None, str] = {row.pk: row.name for row in ProviderAccount.objects.all()}
    names[None] = "settings"
    zones = {zone.pk: zone.name for zone in Zone.objects.all()}
    return {(names[account], zones[zone]) for account, zone in places.known()}


def account(name: str, *, is_active: bool = True) -> ProviderAccount:
    return ProviderAccount.objects.create(
        provider=Provider.objects.get(name="mock"), name=name, credentials="sealed", is_active=is_active
    )


def test_every_account_in_every_zone_that_has_an_offer(stage: Stage) -> None:
    account("research")
    account("switched off", is_active=False)

    assert known() == {(name, zone) for name in ("settings", "research", "switched off") for zone in ("eu-1", "eu-2")}


def test_not_a_zone_that_never_had_anything(stage: Stage) -> None:
    Zone.objects.create(region=Region.objects.get(), name="eu-3")

    assert known() == {("settings", "eu-1"), ("settings", "eu-2")}


def test_a_vanished_offer_still_counts(stage: Stage) -> None:
    InstanceAvailability.objects.update(vanished_at=stage.clock())

    assert ("settings", "eu-1") in known()


def test_not_a_provider_that_is_not_enabled_unless_something_may_bill_there(stage: Stage, settings: Any) -> None:
    instance = stage.ready()
    settings.ENABLED_PROVIDERS = []
    settings.PROVIDER_OPTIONS = {}
    assert known() == {("settings", instance.zone.name)}

    end(stage, instance, drain=False)
    stage.step(instance, times=4)
    assert instance.status == Status.TERMINATED
    assert known() == set()


def test_where_the_ledger_says_that_something_bills(stage: Stage, settings: Any) -> None:
    instance = stage.ready()
    settings.ENABLED_PROVIDERS = []
    Attempt.objects.update(outcome=Outcome.DESTROYED)

    assert Rental.objects.filter(until=None).exists()
    assert known() == {("settings", instance.zone.name)}


def test_each_has_one_row_and_what_is_no_longer_a_place_has_none(stage: Stage) -> None:
    extra = account("research")
    places.refresh(stage.clock())
    places.refresh(stage.clock())
    assert Sweep.objects.count() == 4

    extra.delete()
    InstanceAvailability.objects.filter(zone__name="eu-2").delete()
    places.refresh(stage.clock())
    assert Sweep.objects.count() == 1
