"""A sync of the catalogue by command line, message, clock, button and API. The mock provider lists what there is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from catalog.models import CatalogSync, InstanceAvailability, InstanceType, Provider
from fleet import commands, tasks
from fleet.commands import CommandRefused
from fleet.models import ProviderAccount
from fleet.providers.mock.chaos import Chaos
from fleet.providers.mock.store import Store
from inventiv.accounts.roles import Role
from tests.fleet.stage import OPERATOR
from tests.inventiv.api_stage import session, user, with_key

pytestmark = pytest.mark.django_db

ZONES = ["mock-eu-1", "mock-eu-2", "mock-us-1"]


@pytest.fixture(autouse=True)
def mock_home(settings: Any, tmp_path: Path) -> Path:
    settings.ENABLED_PROVIDERS = ["mock"]
    settings.PROVIDER_OPTIONS = {"mock": {"home": tmp_path}}
    return tmp_path


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """What would stand in the queue: the broker itself is `test_tasks`' affair."""
    sent: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(current_app, "send_task", lambda name, args, **_: sent.append((name, tuple(args))))
    return sent


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sync_catalog", *arguments, stdout=out)
    return out.getvalue()


def out_of_order(home: Path, on: bool = True) -> None:
    with Store(home).transaction() as books:
        Chaos(books).set("unavailable", "on" if on else "off")


# --- manage.py sync_catalog ---------------------------------------------------------------------------------------


def test_it_says_what_it_did_in_each_zone() -> None:
    first, second = run(), run()

    assert "mock zones: 3 listed" in first
    assert "mock mock-eu-1: 6 listed; 12 created, 0 updated, 0 kept, 0 vanished" in first
    assert "created: MOCK-H100-1-80G in mock-eu-1 at 2.866500 EUR" in first
    assert "mock mock-eu-1: 6 listed; 0 created, 0 updated, 0 kept, 0 vanished" in second
    assert InstanceAvailability.objects.count() == 18


def test_it_says_what_an_operator_edited_and_what_has_vanished() -> None:
    run()
    InstanceAvailability.objects.filter(instance_type__name="MOCK-L4-1-24G").update(price_per_hour="0.5")
    kind = InstanceType.objects.get(name="MOCK-L4-2-24G")
    kind.pk, kind.name, kind._state.adding = None, "OLD", True
    kind.save()
    eu_1 = InstanceAvailability.objects.filter(zone__name="mock-eu-1")[0].zone
    InstanceAvailability.objects.create(instance_type=kind, zone=eu_1, price_per_hour=1, currency="EUR")

    out = run("mock")

    assert "kept: MOCK-L4-1-24G: price_per_hour stays 0.500000, which is not from a sync; the provider says" in out
    assert "vanished: OLD" in out


def test_a_dry_run_writes_nothing() -> None:
    out = run("--dry-run")

    assert "A dry run" in out
    assert "12 created" in out
    assert not InstanceAvailability.objects.exists()


def test_what_failed_is_named_and_ends_in_an_error(mock_home: Path) -> None:
    out_of_order(mock_home)

    with pytest.raises(CommandError, match="could not be asked, and left as they were: mock"):
        run()


def test_an_account_whose_credentials_no_key_opens_keeps_nobody_else_from_it() -> None:
    run()
    ProviderAccount.objects.create(provider=Provider.objects.get(), name="lost", credentials="not ours")
    InstanceAvailability.objects.update(stock="unknown")

    with pytest.raises(CommandError, match="left as they were: mock"):
        run()

    assert set(InstanceAvailability.objects.values_list("stock", flat=True)) == {"available"}
    assert "account " in CatalogSync.objects.get(zone=None).error


def test_a_provider_that_is_not_enabled_is_refused() -> None:
    with pytest.raises(CommandError, match="not enabled: azure; ENABLED_PROVIDERS has: mock"):
        run("azure")


# --- messages and the clock ---------------------------------------------------------------------------------------


def test_the_message_of_a_provider_becomes_one_for_each_of_its_zones(published: list[Any]) -> None:
    tasks.sync_catalog("mock")

    assert published == [("CMD:SYNC_CATALOG", ("mock", zone.rpartition("-")[0], zone, "")) for zone in ZONES]

    for _, payload in published:
        tasks.sync_catalog(*payload)
    assert InstanceAvailability.objects.count() == 18


def test_the_clock_wakes_what_is_due_and_only_that(published: list[Any]) -> None:
    tasks.sync_catalogs_due()
    assert published == [("CMD:SYNC_CATALOG", ("mock",))]

    tasks.sync_catalog("mock")
    published.clear()
    tasks.sync_catalogs_due()
    assert published == []


def test_the_clock_wakes_nothing_by_itself_where_it_is_switched_off(published: list[Any], settings: Any) -> None:
    settings.SYNC_CATALOG_EVERY = 0

    tasks.sync_catalogs_due()
    assert published == []

    commands.request_catalog_sync(actor=OPERATOR, now=timezone.now())
    tasks.sync_catalogs_due()
    assert published == [("CMD:SYNC_CATALOG", ("mock",))]


def test_a_request_whose_message_was_lost_is_woken_by_the_clock(published: list[Any]) -> None:
    tasks.sync_catalog("mock")
    commands.request_catalog_sync(["mock"], actor=OPERATOR, now=timezone.now())
    published.clear()

    tasks.sync_catalogs_due()

    assert published == [("CMD:SYNC_CATALOG", ("mock",))]


def test_a_request_is_published_after_the_commit(published: list[Any], django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        commands.request_catalog_sync(actor=OPERATOR, now=timezone.now())
        assert published == []

    assert published == [("CMD:SYNC_CATALOG", ("mock",))]
    assert CatalogSync.objects.get().requested_by == OPERATOR.name


def test_a_request_for_a_provider_that_is_not_enabled_is_refused() -> None:
    with pytest.raises(CommandRefused) as refused:
        commands.request_catalog_sync(["mock", "azure"], actor=OPERATOR, now=timezone.now())

    assert (refused.value.field, refused.value.message) == (
        "providers",
        "provider azure is not enabled; enabled: mock",
    )
    assert not CatalogSync.objects.exists()


# --- the API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def operator() -> APIClient:
    return session(Role.OPERATOR)


def test_the_api_takes_the_wish_and_shows_what_came_of_it(operator: APIClient) -> None:
    response = operator.post("/catalog/sync", {"providers": ["mock"]})
    assert (response.status_code, response.json()) == (202, {"providers": ["mock"]})

    run()
    rows = operator.get("/catalog/sync").json()["results"]
    by_zone = {row["zone"]: row for row in rows}

    assert set(by_zone) == {None, *ZONES}
    assert by_zone[None]["requested_by"] == "operator@example.com"
    assert [by_zone["mock-eu-1"][what] for what in ("listed", "created", "error")] == [6, 12, ""]
    assert all(row["succeeded_at"] for row in rows)


def test_the_api_asks_all_enabled_providers_where_none_is_named(operator: APIClient) -> None:
    assert operator.post("/catalog/sync", {}).json() == {"providers": ["mock"]}


def test_the_api_shows_a_failure(operator: APIClient, mock_home: Path) -> None:
    run()
    out_of_order(mock_home)
    with pytest.raises(CommandError):
        run()

    (row,) = operator.get("/catalog/sync?failed=true").json()["results"]

    assert row["zone"] is None
    assert row["error"].startswith("account of the settings: unavailable")
    assert row["succeeded_at"] < row["tried_at"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"providers": ["azure"]}, 422, "providers"),
        ({"providers": "mock"}, 400, "providers"),
        ({"provider": ["mock"]}, 400, "provider"),
    ],
)
def test_the_api_refuses_by_field(operator: APIClient, body: dict[str, Any], status: int, field: str) -> None:
    response = operator.post("/catalog/sync", body)

    assert response.status_code == status
    assert [fault["field"].partition(".")[0] for fault in response.json()["errors"]] == [field]
    assert not CatalogSync.objects.exists()


def test_the_request_by_api_key_names_the_key() -> None:
    with_key("write").post("/catalog/sync", {})

    assert CatalogSync.objects.get().requested_by == "admin@example.com (API key script)"


# --- the admin ----------------------------------------------------------------------------------------------------

LIST = reverse("admin:catalog_catalogsync_changelist")
NOW = reverse("admin:catalog_catalogsync_now")


def browser(role: Role) -> Client:
    client = Client()
    client.force_login(user(role))
    return client


@pytest.mark.parametrize("page", ["instancetype", "provider", "catalogsync"])
def test_an_operator_finds_the_button_and_a_viewer_does_not(page: str) -> None:
    url = reverse(f"admin:catalog_{page}_changelist")

    assert NOW in browser(Role.OPERATOR).get(url).content.decode()
    assert NOW not in browser(Role.VIEWER).get(url).content.decode()


def test_the_button_asks_all_enabled_providers() -> None:
    response = browser(Role.OPERATOR).post(NOW, follow=True)

    assert response.redirect_chain == [(LIST, 302)]
    assert "Asking mock what there is" in response.content.decode()
    assert CatalogSync.objects.get().requested_at is not None


def test_the_button_is_not_pressed_by_a_link_or_by_a_viewer() -> None:
    assert browser(Role.OPERATOR).get(NOW).status_code == 405
    assert browser(Role.VIEWER).post(NOW).status_code == 403
    assert not CatalogSync.objects.exists()


def test_the_list_shows_what_came_of_each_zone(mock_home: Path) -> None:
    run()
    out_of_order(mock_home)
    with pytest.raises(CommandError):
        run()

    page = browser(Role.VIEWER).get(LIST).content.decode()

    assert "mock-eu-1" in page
    assert "the list of zones" in page
    assert 'inv-bad" title="account of the settings: unavailable' in page


@pytest.mark.parametrize(("result", "shown"), [("failed", 1), ("partly", 1), ("done", 2), ("", 4)])
def test_the_list_is_narrowed_to_a_result(result: str, shown: int) -> None:
    run()
    of_zones = CatalogSync.objects.exclude(zone=None).order_by("zone__name")
    CatalogSync.objects.filter(pk=of_zones[0].pk).update(error="unavailable")
    CatalogSync.objects.filter(pk=of_zones[1].pk).update(skipped="ODD-TYPE: no GPU")

    response = browser(Role.VIEWER).get(LIST, {"result": result} if result else {})

    assert response.context["cl"].result_count == shown


def test_a_zone_can_still_be_deleted_after_a_sync() -> None:
    run()
    zone = CatalogSync.objects.get(zone__name="mock-us-1").zone
    assert zone is not None

    browser(Role.OPERATOR).post(reverse("admin:catalog_zone_delete", args=[zone.pk]), {"post": "yes"})

    assert not CatalogSync.objects.filter(zone=zone.pk).exists()
    assert InstanceAvailability.objects.count() == 12
