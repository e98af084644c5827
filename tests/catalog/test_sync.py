"""A provider's listing against the catalogue: what is taken over, what is kept, what is marked, what is skipped."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from catalog import offers, placement, sync
from catalog.models import CatalogSync, InstanceAvailability, InstanceType, LlmModel, Provider, Zone
from catalog.placement import Limits, Plan
from catalog.sync import Place, Report, SeenOffer
from tests.catalog.stage import Stage, make_model

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
PLACE = Place("scaleway", "fr-par", "fr-par-1")
L4 = SeenOffer("L4-1-24G", "L4", 1, 24, Decimal("0.7875"), "EUR", "available")
H100 = SeenOffer("H100-1-80G", "H100", 1, 80, Decimal("2.8665"), "EUR", "scarce")


def run(*seen: SeenOffer, place: Place = PLACE, now: datetime = NOW, dry_run: bool = False) -> Report:
    return sync.sync_zone(place, seen, now=now, dry_run=dry_run)


def row(name: str = "L4-1-24G", zone: str = "fr-par-1") -> InstanceAvailability:
    return InstanceAvailability.objects.get(instance_type__name=name, zone__name=zone)


def edit(name: str = "L4-1-24G", **columns: Any) -> None:
    """As an operator does, in the admin or over the API."""
    InstanceAvailability.objects.filter(instance_type__name=name).update(**columns)


def everything() -> list[Any]:
    tables = (Provider, Zone, InstanceType, InstanceAvailability)
    return [sorted(table.objects.values_list(), key=str) for table in tables]


# --- what is new --------------------------------------------------------------------------------------------------


def test_it_fills_an_empty_catalogue() -> None:
    report = run(L4, replace(H100, spot_price_per_hour=Decimal("1.1")))

    kind = InstanceType.objects.get(name="H100-1-80G")
    assert (kind.provider.name, kind.gpu_name, kind.gpu_count, kind.vram_per_gpu_gb) == ("scaleway", "H100", 1, 80)
    offer = row("H100-1-80G")
    assert (offer.price_per_hour, offer.currency, offer.stock) == (Decimal("2.8665"), "EUR", "scarce")
    assert offer.spot_price_per_hour == Decimal("1.1")
    assert (offer.zone.name, offer.zone.region.name) == ("fr-par-1", "fr-par")
    assert report.listed == 2
    assert "H100-1-80G in fr-par-1 at 2.866500 EUR" in report.created


def test_a_second_sync_changes_nothing() -> None:
    run(L4, H100)
    before = everything()

    report = run(L4, H100, now=LATER)

    assert everything() == before
    assert list(report.lines()) == []


def test_a_new_type_is_offered_at_once() -> None:
    run(replace(L4, instance_type="X-1", gpu_name="X9000"))

    assert InstanceType.objects.get(name="X-1").is_active


@pytest.mark.parametrize(
    ("gpu", "words"),
    [
        ("P100", "P100 has compute capability 6.0, the engine needs 7.0"),
        ("Tesla P100-PCIE-16GB", "P100 has compute capability 6.0, the engine needs 7.0"),
        ("M60", "M60 has compute capability 5.2, the engine needs 7.0"),
        ("Radeon Pro V520", "the engine's image is for NVIDIA GPUs"),
        ("T4g", "the machines of T4G have Arm processors, the engine's image is for x86-64"),
    ],
)
def test_a_new_type_whose_gpu_the_engine_cannot_use_is_inactive(gpu: str, words: str) -> None:
    report = run(replace(L4, gpu_name=gpu))

    assert not InstanceType.objects.get().is_active
    assert any(words in line for line in report.created)


@pytest.mark.parametrize("gpu", ["V100", "T4", "L4", "L40S", "A10G", "A100-40", "H100-SXM", "H200", "B300-SXM", "P5"])
def test_a_gpu_that_the_engine_can_use_is_not_taken_for_an_old_one(gpu: str) -> None:
    run(replace(L4, gpu_name=gpu))

    assert InstanceType.objects.get().is_active


def test_a_type_without_a_known_price_is_offered_once_a_price_is_known() -> None:
    report = run(replace(L4, price_per_hour=None))
    assert report.skipped == ("L4-1-24G: no price is known; set one by hand to offer it",)
    assert not InstanceAvailability.objects.exists()

    run(L4, now=LATER)
    assert row().price_per_hour == Decimal("0.7875")


def test_a_price_that_can_not_be_asked_for_leaves_the_last_one_known() -> None:
    run(replace(L4, spot_price_per_hour=Decimal("0.4")))

    run(replace(L4, price_per_hour=None, stock="scarce"), now=LATER)

    assert (row().price_per_hour, row().spot_price_per_hour) == (Decimal("0.7875"), Decimal("0.4"))
    assert row().stock == "scarce"


# --- what changed -------------------------------------------------------------------------------------------------


def test_it_follows_the_provider() -> None:
    run(replace(L4, spot_price_per_hour=Decimal("0.4")))

    report = run(replace(L4, price_per_hour=Decimal("0.8"), stock="shortage", vram_per_gpu_gb=25), now=LATER)

    offer = row()
    assert (offer.price_per_hour, offer.stock, offer.spot_price_per_hour) == (Decimal("0.8"), "shortage", None)
    assert offer.instance_type.vram_per_gpu_gb == 25
    assert offer.updated_at == LATER
    assert "L4-1-24G: price_per_hour 0.787500 -> 0.800000" in report.updated


def test_it_follows_a_provider_that_changes_its_mind_again() -> None:
    run(L4)
    for price, vram in (("0.8", 25), ("0.9", 26)):
        run(replace(L4, price_per_hour=Decimal(price), vram_per_gpu_gb=vram), now=LATER)

    assert (row().price_per_hour, row().instance_type.vram_per_gpu_gb) == (Decimal("0.9"), 26)


def test_what_our_own_tries_taught_is_none_of_its_business() -> None:
    run(L4)
    edit(last_success_at=NOW, last_stockout_at=LATER)

    run(replace(L4, price_per_hour=Decimal("0.8")), now=LATER)

    assert (row().last_success_at, row().last_stockout_at) == (NOW, LATER)


def test_a_type_that_an_operator_switched_off_stays_off() -> None:
    run(L4)
    InstanceType.objects.update(is_active=False)

    run(replace(L4, vram_per_gpu_gb=25), now=LATER)

    assert not InstanceType.objects.get().is_active


# --- what was edited by hand --------------------------------------------------------------------------------------


def test_a_price_that_an_operator_edited_survives() -> None:
    run(L4)
    edit(price_per_hour=Decimal("0.5"))

    report = run(replace(L4, price_per_hour=Decimal("0.8")), now=LATER)

    assert row().price_per_hour == Decimal("0.5")
    assert report.kept == (
        "L4-1-24G: price_per_hour stays 0.500000, which is not from a sync; the provider says 0.800000",
    )


def test_the_other_columns_of_an_edited_row_follow_the_provider() -> None:
    run(L4)
    edit(price_per_hour=Decimal("0.5"))

    run(replace(L4, spot_price_per_hour=Decimal("0.3"), stock="scarce"), now=LATER)

    assert (row().price_per_hour, row().spot_price_per_hour, row().stock) == (Decimal("0.5"), Decimal("0.3"), "scarce")


def test_an_edit_that_is_taken_back_hands_the_column_back() -> None:
    run(L4)
    edit(price_per_hour=Decimal("0.5"))
    edit(price_per_hour=Decimal("0.7875"))

    run(replace(L4, price_per_hour=Decimal("0.8")), now=LATER)

    assert row().price_per_hour == Decimal("0.8")


def test_a_price_pinned_by_hand_stays_when_the_provider_has_passed_it() -> None:
    run(L4)
    edit(price_per_hour=Decimal("0.8"))

    for price in ("0.8", "0.9"):
        run(replace(L4, price_per_hour=Decimal(price)), now=LATER)

    assert row().price_per_hour == Decimal("0.8")


def test_a_row_that_an_operator_made_follows_only_in_stock_and_in_being_listed(stage: Stage) -> None:
    seen = replace(L4, price_per_hour=Decimal("0.9"), gpu_count=2, spot_price_per_hour=Decimal("0.2"))

    run(replace(seen, stock="shortage"))

    offer = row()
    assert (offer.price_per_hour, offer.spot_price_per_hour) == (Decimal("0.7875"), None)
    assert offer.instance_type.gpu_count == 1
    assert offer.stock == "shortage"

    run(now=LATER)
    assert row().vanished_at == LATER


def test_a_currency_never_changes_beside_a_price_that_stays() -> None:
    run(L4)
    edit(price_per_hour=Decimal("0.5"))

    report = run(replace(L4, price_per_hour=Decimal("0.9"), currency="USD"), now=LATER)

    assert (row().price_per_hour, row().currency) == (Decimal("0.5"), "EUR")
    assert report.kept == ("L4-1-24G: stays in EUR; the provider says 0.9 USD",)


def test_a_provider_that_changes_its_currency_is_followed() -> None:
    run(L4)

    run(replace(L4, price_per_hour=Decimal("0.9"), currency="USD"), now=LATER)

    assert (row().price_per_hour, row().currency) == (Decimal("0.9"), "USD")


def test_a_stock_set_by_hand_stands_until_the_provider_has_a_word() -> None:
    run(replace(L4, stock="unknown"))
    edit(stock="shortage")

    run(replace(L4, stock="unknown"))
    assert row().stock == "shortage"

    run(replace(L4, stock="available"))
    assert row().stock == "available"


def test_a_stock_that_the_provider_no_longer_tells_is_unknown() -> None:
    run(replace(L4, stock="available"))
    run(replace(L4, stock="shortage"))

    run(replace(L4, stock="unknown"))

    assert row().stock == "unknown"


def test_the_seed_and_the_sync_agree_on_what_a_hand_edit_is() -> None:
    call_command("seed_catalog", "--provider", "scaleway", verbosity=0)
    edit("L4-1-24G", price_per_hour=Decimal("0.5"))

    run(*(replace(L4, instance_type=name, price_per_hour=Decimal(9)) for name in ("L4-1-24G", "L4-2-24G")))

    assert row("L4-1-24G").price_per_hour == Decimal("0.5")
    assert row("L4-2-24G").price_per_hour == Decimal(9)


def test_a_seeded_catalogue_is_kept_as_it_is_by_a_provider_that_says_the_same() -> None:
    call_command("seed_catalog", "--provider", "scaleway", verbosity=0)
    zone = Zone.objects.get(name="fr-par-2")
    said = [
        SeenOffer(
            offer.instance_type.name,
            offer.instance_type.gpu_name,
            offer.instance_type.gpu_count,
            offer.instance_type.vram_per_gpu_gb,
            offer.price_per_hour,
            offer.currency,
            "unknown",
        )
        for offer in zone.availabilities.select_related("instance_type")
    ]
    before = everything()

    report = run(*said, place=replace(PLACE, zone="fr-par-2"))

    assert everything() == before
    assert list(report.lines()) == []
    assert not InstanceType.objects.get(name="RENDER-S").is_active


def test_seeding_with_update_hands_an_edited_price_back_to_the_sync() -> None:
    call_command("seed_catalog", "--provider", "scaleway", verbosity=0)
    edit(price_per_hour=Decimal("0.5"), synced={})

    call_command("seed_catalog", "--provider", "scaleway", "--update", verbosity=0)
    run(replace(L4, price_per_hour=Decimal("0.8")))

    assert row().price_per_hour == Decimal("0.8")


# --- what vanished ------------------------------------------------------------------------------------------------


def plan_of(model: LlmModel) -> Plan:
    return placement.plan(offers.need(model), offers.current_offers(), Limits())


def test_what_is_no_longer_listed_is_marked_and_left_out_of_plans_and_comes_back(settings: Any) -> None:
    settings.ENABLED_PROVIDERS = ["scaleway"]
    model = make_model("acme/small")
    run(L4, H100)

    report = run(H100, now=LATER)

    assert report.vanished == ("L4-1-24G",)
    assert (row().vanished_at, row().instance_type.vanished_at) == (LATER, LATER)
    plan = plan_of(model)
    assert [ranked.offer.instance_type for ranked in plan.ranked] == ["H100-1-80G"]
    assert [(rejected.code, rejected.reason) for rejected in plan.rejected] == [
        ("vanished", "scaleway no longer lists L4-1-24G in fr-par-1, since 2026-11-23 13:00 UTC")
    ]

    back = run(L4, H100, now=LATER + timedelta(hours=1))

    assert back.returned == ("L4-1-24G",)
    assert (row().vanished_at, row().instance_type.vanished_at) == (None, None)
    assert [ranked.offer.instance_type for ranked in plan_of(model).ranked] == ["L4-1-24G", "H100-1-80G"]


def test_it_keeps_the_instant_at_which_something_vanished() -> None:
    run(L4)
    run(now=NOW)

    report = run(now=LATER)

    assert row().vanished_at == NOW
    assert report.vanished == ()


def test_a_type_has_vanished_when_no_zone_lists_it() -> None:
    other = replace(PLACE, zone="fr-par-2")
    run(L4)
    run(L4, place=other)

    run()
    assert InstanceType.objects.get().vanished_at is None

    run(place=other, now=LATER)
    assert InstanceType.objects.get().vanished_at == LATER

    run(L4, place=other)
    assert InstanceType.objects.get().vanished_at is None


def test_a_type_that_an_operator_has_not_offered_anywhere_does_not_vanish(stage: Stage) -> None:
    run(L4)

    stage.h100.refresh_from_db()
    assert stage.h100.vanished_at is None


def test_a_zone_is_told_apart_from_another_ones(stage: Stage) -> None:
    run(L4)

    run(place=replace(PLACE, zone="fr-par-2"))

    assert row().vanished_at is None


def test_the_offers_of_a_zone_that_the_provider_no_longer_names_are_marked() -> None:
    run(L4)
    run(L4, place=replace(PLACE, zone="fr-par-2"))

    report = sync.sync_zones("scaleway", [PLACE], now=LATER)

    assert report.vanished == ("L4-1-24G in fr-par-2",)
    assert (row().vanished_at, row(zone="fr-par-2").vanished_at) == (None, LATER)
    assert InstanceType.objects.get().vanished_at is None


# --- what can't be taken over -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"currency": "XTS"}, "“XTS” is not among the currencies"),
        ({"price_per_hour": Decimal(-1)}, "price_per_hour"),
        ({"price_per_hour": Decimal("NaN")}, "price_per_hour"),
        ({"price_per_hour": Decimal("Infinity")}, "price_per_hour"),
        ({"price_per_hour": Decimal("1e30")}, "price_per_hour"),
        ({"gpu_count": 0}, "gpu_count"),
        ({"vram_per_gpu_gb": 0}, "vram_per_gpu_gb"),
        ({"gpu_name": "G" * 51}, "gpu_name"),
        ({"gpu_name": ""}, "gpu_name"),
        ({"stock": "plenty"}, "stock"),
    ],
)
def test_a_senseless_offer_is_skipped_and_reported_and_the_others_go_on(change: dict[str, Any], words: str) -> None:
    report = run(replace(L4, **change), H100)

    (line,) = report.skipped
    assert line.startswith("L4-1-24G: ")
    assert words in line
    assert list(InstanceAvailability.objects.values_list("instance_type__name", flat=True)) == ["H100-1-80G"]


def test_what_is_listed_in_an_unknown_currency_is_left_alone_and_has_not_vanished() -> None:
    run(L4)
    before = everything()

    report = run(replace(L4, currency="XTS", price_per_hour=Decimal(9)), now=LATER)

    assert everything() == before
    assert report.vanished == ()
    assert CatalogSync.objects.get().skipped == "\n".join(report.skipped)


def test_a_price_of_more_digits_than_the_column_has_is_rounded() -> None:
    run(replace(L4, price_per_hour=Decimal("0.52600000004")))

    assert row().price_per_hour == Decimal("0.526")
    assert list(run(replace(L4, price_per_hour=Decimal("0.52600000004"))).lines()) == []


# --- costs and records --------------------------------------------------------------------------------------------


def queries_of_a_life(place: Place, count: int) -> list[int]:
    """Of the sync that finds so many types, of one in which all have changed, and of one in which all are gone."""
    new = [replace(L4, instance_type=f"T{number}") for number in range(count)]
    changed = [replace(offer, price_per_hour=Decimal(5), vram_per_gpu_gb=30) for offer in new]
    counts = []
    for listing in (new, changed, []):
        with CaptureQueriesContext(connection) as captured:
            run(*listing, place=place)
        counts.append(len(captured))
    return counts


def test_a_zone_costs_the_same_queries_however_much_is_listed() -> None:
    few = queries_of_a_life(replace(PLACE, provider="aws"), 1)
    many = queries_of_a_life(replace(PLACE, provider="scaleway"), 60)

    assert many == few
    assert max(many) <= 20


def test_a_dry_run_tells_and_writes_nothing() -> None:
    run(L4)
    before = everything(), list(CatalogSync.objects.values())

    report = run(replace(H100, gpu_name="P100"), now=LATER, dry_run=True)

    assert (everything(), list(CatalogSync.objects.values())) == before
    assert report.vanished == ("L4-1-24G",)
    assert len(report.created) == 2


def test_the_last_sync_of_a_zone_is_recorded() -> None:
    run(L4, H100)
    edit(price_per_hour=Decimal("0.5"))
    run(replace(L4, price_per_hour=Decimal("0.8")), now=LATER)

    record = CatalogSync.objects.get()
    assert (record.provider.name, str(record.zone)) == ("scaleway", "fr-par-1")
    assert (record.tried_at, record.succeeded_at, record.error) == (LATER, LATER, "")
    assert (record.listed, record.created, record.kept, record.vanished) == (1, 0, 1, 1)


def test_a_failure_is_recorded_and_leaves_the_last_success_in_sight() -> None:
    run(L4)
    before = everything()

    sync.note_failure("scaleway", "unavailable: 502", now=LATER, place=PLACE)

    record = CatalogSync.objects.get()
    assert (record.tried_at, record.succeeded_at, record.error) == (LATER, NOW, "unavailable: 502")
    assert record.listed == 1
    assert everything() == before

    run(L4, now=LATER)
    assert CatalogSync.objects.get().error == ""


# --- when a sync is due -------------------------------------------------------------------------------------------

HOURLY = timedelta(hours=1)


def test_a_provider_is_due_at_first_and_then_once_a_period() -> None:
    assert sync.due(["scaleway", "mock"], every=HOURLY, now=NOW) == ["scaleway", "mock"]

    sync.sync_zones("scaleway", [PLACE], now=NOW)

    assert sync.due(["scaleway", "mock"], every=HOURLY, now=NOW + timedelta(minutes=59)) == ["mock"]
    assert sync.due(["scaleway"], every=HOURLY, now=LATER) == ["scaleway"]


def test_a_provider_that_could_not_be_asked_is_due_a_period_later() -> None:
    sync.note_failure("scaleway", "unavailable", now=NOW)

    assert sync.due(["scaleway"], every=HOURLY, now=NOW + timedelta(minutes=59)) == []
    assert sync.due(["scaleway"], every=HOURLY, now=LATER) == ["scaleway"]


@pytest.mark.parametrize("every", [None, HOURLY])
def test_what_somebody_asked_for_is_due_until_it_was_tried(every: timedelta | None) -> None:
    sync.sync_zones("scaleway", [PLACE], now=NOW)
    asked = NOW + timedelta(minutes=1)

    sync.request(["scaleway"], actor="olga", now=asked)
    assert sync.due(["scaleway"], every=every, now=asked) == ["scaleway"]

    sync.sync_zones("scaleway", [PLACE], now=asked + timedelta(seconds=1))
    assert sync.due(["scaleway"], every=every, now=asked + timedelta(seconds=2)) == []


def test_without_a_period_nothing_is_due_that_nobody_asked_for() -> None:
    assert sync.due(["scaleway"], every=None, now=NOW) == []

    sync.request(["scaleway"], actor="olga", now=NOW)

    assert sync.due(["scaleway"], every=None, now=NOW) == ["scaleway"]
