"""Asking the providers for the catalogue: a zone that fails, a list of zones that is not whole, a real driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from catalog.models import CatalogSync, InstanceAvailability, InstanceType, Provider, Zone
from catalog.sync import Report
from fleet import sealing
from fleet.lifecycle import catalogue
from fleet.models import ProviderAccount
from fleet.providers.base import AuthError, Location, MachineOffer, Stock, Throttled, Unavailable
from fleet.providers.mock.provider import MockProvider
from tests.fleet.paper_cloud import PaperCloud
from tests.fleet.stage import Stage

FIRST, SECOND = Location("eu", "eu-1"), Location("eu", "eu-2")


def offer(location: Location, name: str = "SMALL", *, price: str = "1") -> MachineOffer:
    vram = {"SMALL": 24, "LARGE": 80}.get(name, 48)
    return MachineOffer(name, location, name, 1, vram, Decimal(price), "EUR", Stock.SCARCE)


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """The provider lists what the catalogue has, and one type more; what the catalogue has comes from a sync."""
    stage.cloud.offers = {
        zone: [offer(zone), offer(zone, "LARGE", price="3"), offer(zone, "NEW")] for zone in (FIRST, SECOND)
    }
    synced = {"price_per_hour": "1", "currency": "EUR", "spot_price_per_hour": None, "stock": "available"}
    InstanceAvailability.objects.filter(instance_type__name="SMALL").update(synced=synced)
    return stage


def run(stage: Stage, *, dry_run: bool = False) -> Sequence[Report]:
    return list(catalogue.sync_provider("mock", stage.world, dry_run=dry_run))


def prices(zone: str) -> dict[str, Decimal]:
    rows = InstanceAvailability.objects.filter(zone__name=zone)
    return dict(rows.values_list("instance_type__name", "price_per_hour"))


def test_it_takes_over_every_zone(stage: Stage) -> None:
    zones, first, second = run(stage)

    assert (zones.zone, zones.listed) == ("", 2)
    assert [report.zone for report in (first, second)] == ["eu-1", "eu-2"]
    assert prices("eu-1") == prices("eu-2") == {"SMALL": Decimal(1), "LARGE": Decimal(3), "NEW": Decimal(1)}
    assert set(InstanceAvailability.objects.values_list("stock", flat=True)) == {"scarce"}


def test_a_zone_that_is_new_joins_the_catalogue(stage: Stage) -> None:
    place = Location("us", "us-1")
    stage.cloud.offers[place] = [offer(place)]

    run(stage)

    assert Zone.objects.get(name="us-1").region.name == "us"
    assert prices("us-1") == {"SMALL": Decimal(1)}


@pytest.mark.parametrize("error", [Unavailable("502"), Throttled("slow down"), AuthError("no right")])
def test_a_zone_that_fails_is_left_alone_and_the_others_go_on(stage: Stage, error: Unavailable) -> None:
    for place in stage.cloud.offers:
        stage.cloud.offers[place] = [offer(place, price="2")]
    stage.cloud.fail_next("list_offers", error)

    _, failed, fine = run(stage)

    assert failed.error == f"{error.code}: {error}"
    assert fine.error == ""
    assert prices("eu-1") == {"SMALL": Decimal(1), "LARGE": Decimal(3)}
    assert not InstanceAvailability.objects.filter(zone__name="eu-1", vanished_at__isnull=False).exists()
    assert prices("eu-2")["SMALL"] == Decimal(2)
    assert CatalogSync.objects.get(zone__name="eu-1").error == failed.error
    assert CatalogSync.objects.get(zone__name="eu-2").error == ""


def test_a_list_of_zones_that_fails_changes_nothing(stage: Stage) -> None:
    stage.cloud.fail_next("locations", Unavailable("no answer"))

    (report,) = run(stage)

    assert report.error == "account of the settings: unavailable: no answer"
    assert not InstanceAvailability.objects.filter(vanished_at__isnull=False).exists()
    assert CatalogSync.objects.get().error == report.error


def test_a_provider_that_names_no_zone_at_all_is_not_believed(stage: Stage) -> None:
    stage.cloud.offers = {}

    (report,) = run(stage)

    assert report.error == "no account names a zone"
    assert not InstanceAvailability.objects.filter(vanished_at__isnull=False).exists()


def test_a_zone_that_is_no_longer_named_takes_its_offers_along(stage: Stage) -> None:
    del stage.cloud.offers[SECOND]

    zones, _ = run(stage)

    assert zones.vanished == ("LARGE in eu-2", "SMALL in eu-2")
    assert InstanceAvailability.objects.filter(zone__name="eu-2", vanished_at=stage.clock()).count() == 2


def test_a_provider_is_never_asked_inside_a_transaction(transactional_db: None, stage: Stage) -> None:
    during: list[tuple[str, bool]] = []
    stage.cloud.on_call = lambda name: during.append((name, connection.in_atomic_block))

    run(stage)

    assert during == [("locations", False), ("list_offers", False), ("list_offers", False)]


def test_a_dry_run_writes_nothing(stage: Stage) -> None:
    stage.cloud.fail_next("list_offers", Unavailable("502"))

    reports = run(stage, dry_run=True)

    assert [bool(report.error) for report in reports] == [False, True, False]
    assert not CatalogSync.objects.exists()
    assert not InstanceType.objects.filter(name="NEW").exists()


# --- several accounts ---------------------------------------------------------------------------------------------


@pytest.fixture
def second_account(stage: Stage) -> tuple[ProviderAccount, PaperCloud]:
    """An account that rents in a zone of its own, too."""
    account = ProviderAccount.objects.create(
        provider=Provider.objects.get(), name="research", credentials=sealing.seal("{}")
    )
    cloud = PaperCloud(now=stage.clock)
    us = Location("us", "us-1")
    cloud.offers = {FIRST: [offer(FIRST, price="9")], us: [offer(us)]}
    clouds = {None: stage.cloud, account.pk: cloud}
    stage.world = replace(stage.world, provider=lambda name, account_id: clouds[account_id])
    return account, cloud


def test_the_zones_of_all_accounts_are_taken_over_each_from_the_first_account_that_has_it(
    stage: Stage, second_account: tuple[ProviderAccount, PaperCloud]
) -> None:
    run(stage)

    assert prices("eu-1")["SMALL"] == Decimal(1)
    assert prices("us-1") == {"SMALL": Decimal(1)}


def test_a_zone_vanishes_only_where_every_account_has_answered(
    stage: Stage, second_account: tuple[ProviderAccount, PaperCloud]
) -> None:
    run(stage)
    account, cloud = second_account
    cloud.fail_next("locations", AuthError("revoked"))

    zones, *others = run(stage)

    assert zones.error == f"account {account.pk}: auth: revoked"
    assert [report.zone for report in others] == ["eu-1", "eu-2"]
    assert not InstanceAvailability.objects.filter(zone__name="us-1", vanished_at__isnull=False).exists()


# --- a real driver ------------------------------------------------------------------------------------------------


def test_the_mock_provider_lists_what_the_seed_has_and_nothing_of_it_vanishes(stage: Stage, tmp_path: Path) -> None:
    for model in (InstanceAvailability, InstanceType, Zone):
        model.objects.all().delete()
    call_command("seed_catalog", "--provider", "mock", verbosity=0)
    mock = MockProvider(tmp_path, clock=stage.clock)
    stage.world = replace(stage.world, provider=lambda name, account: mock)

    reports = run(stage)

    said = [line for report in reports for line in report.lines()]
    assert all("spot_price_per_hour None ->" in line for line in said)  # which a file does not tell
    assert [report.listed for report in reports] == [3, 6, 6, 6]
    assert not InstanceAvailability.objects.filter(vanished_at__isnull=False).exists()
