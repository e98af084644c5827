"""The catalogue's admin pages, driven as a browser would: what they show, what they save, who may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone
from inventiv.accounts.roles import Role
from tests.catalog.stage import ED25519, Stage, browser, make_model

MODELS: list[type[Model]] = [Provider, Region, Zone, InstanceType, SshKey, LlmModel]


@pytest.fixture
def operator_page(db: None) -> Client:
    return browser(Role.OPERATOR, Client())


@pytest.fixture
def viewer_page(db: None) -> Client:
    return browser(Role.VIEWER, Client())


def list_of(model: type[Model]) -> str:
    return reverse(f"admin:catalog_{model._meta.model_name}_changelist")


def page_of(row: Model) -> str:
    return reverse(f"admin:catalog_{row._meta.model_name}_change", args=[row.pk])


def rows_of(stage: Stage) -> list[Model]:
    return [stage.scaleway, stage.region, stage.zone, stage.l4, stage.ssh_key, stage.model]


class Form(HTMLParser):
    """What a browser would post: the values of a page's main form, unchanged."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self._select = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        match tag:
            case "input" if "name" in given and given.get("type") not in ("submit", "button"):
                if given.get("type") != "checkbox" or "checked" in given:
                    self.values[given["name"]] = given.get("value", "")
            case "select":
                self._select = given.get("name", "")
            case "option" if "selected" in given and self._select:
                self.values[self._select] = given.get("value", "")
            case "textarea":
                self.values.setdefault(given["name"], "")


def posted(client: Client, row: Model, **changes: str) -> Any:
    """Open the page, change some fields, save."""
    values = Form(client.get(page_of(row)).content.decode()).values
    # The other forms of the page (logging out, the theme) are none of ours.
    return client.post(page_of(row), {**values, **changes})


def cell(stage: Stage, zone: Zone, column: str, instance_type: InstanceType | None = None) -> str:
    return f"offer-{(instance_type or stage.l4).pk}-{zone.pk}-{column}"


# --- lists and pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_every_role_opens_every_list_and_page(stage: Stage, role: Role) -> None:
    client = browser(role, Client())

    for model in MODELS:
        assert client.get(list_of(model)).status_code == 200, model
    for row in rows_of(stage):
        assert client.get(page_of(row)).status_code == 200, row


def test_an_operator_opens_the_page_of_a_new_row(stage: Stage, operator_page: Client) -> None:
    for model in (Region, Zone, InstanceType, SshKey, LlmModel):
        url = reverse(f"admin:catalog_{model._meta.model_name}_add")
        assert operator_page.get(url).status_code == 200, model


def test_the_list_of_types_shows_price_stock_and_memory(stage: Stage, viewer_page: Client) -> None:
    html = viewer_page.get(list_of(InstanceType)).content.decode()

    assert "0.7875 EUR" in html
    assert 'inv-warn" title="Scarce, 0.7875 EUR per hour">fr-par-1<' in html
    assert page_of(stage.scaleway) in html


@pytest.mark.parametrize(
    "query",
    [
        "instancetype/?q=h100",
        "instancetype/?availabilities__zone__id__exact={zone}",
        "zone/?region__provider__id__exact={provider}",
        "llmmodel/?q=llama&is_active__exact=1",
        "sshkey/?provider__id__exact={provider}",
        "region/?o=3",
        "provider/?o=4.5",
    ],
)
def test_lists_are_searched_filtered_and_ordered(stage: Stage, viewer_page: Client, query: str) -> None:
    path = query.format(zone=stage.zone.pk, provider=stage.scaleway.pk)

    assert viewer_page.get(f"/admin/catalog/{path}").status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_a_list_costs_the_same_queries_at_any_length(
    stage: Stage, viewer_page: Client, model: type[Model], django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    with django_assert_max_num_queries(30) as before:
        viewer_page.get(list_of(model))
    for number in range(8):
        _grow(stage, number)

    with django_assert_max_num_queries(len(before)):
        viewer_page.get(list_of(model))


def _grow(stage: Stage, number: int) -> None:
    provider = Provider.objects.create(name=f"p{number}")
    zone = Zone.objects.create(region=Region.objects.create(provider=provider, name="r"), name="z")
    kind = InstanceType.objects.create(provider=provider, name="t", gpu_name="g", gpu_count=1, vram_per_gpu_gb=1)
    InstanceAvailability.objects.create(instance_type=kind, zone=zone, price_per_hour=1, currency="EUR")
    SshKey.objects.create(provider=provider, name="k", public_key=ED25519)
    make_model(f"acme/m{number}")


def test_a_models_page_tells_where_it_fits_and_why_not_elsewhere(
    stage: Stage, viewer_page: Client, settings: Any
) -> None:
    settings.ENABLED_PROVIDERS = ["scaleway"]
    huge = make_model("acme/huge", parameters=70_000_000_000)

    fits, does_not = (viewer_page.get(page_of(row)).content.decode() for row in (stage.model, huge))

    assert "L4-1-24G" in fits
    assert "16.1" in fits
    assert "No offer fits" not in fits
    assert "No offer fits" in does_not
    assert "needs 140.0 GB for weights, this type has 24 GB" in does_not


def test_a_keys_page_shows_its_fingerprint(stage: Stage, viewer_page: Client) -> None:
    assert "SHA256:" in viewer_page.get(page_of(stage.ssh_key)).content.decode()


# --- offers, on both pages ----------------------------------------------------------------------------------------


def test_the_types_page_lists_every_zone_of_its_provider(stage: Stage, operator_page: Client) -> None:
    values = Form(operator_page.get(page_of(stage.l4)).content.decode()).values

    assert values[cell(stage, stage.zone, "price_per_hour")] == "0.787500"
    assert values[cell(stage, stage.zone, "stock")] == "scarce"
    assert values[cell(stage, stage.bare_zone, "price_per_hour")] == ""
    assert cell(stage, stage.aws_zone, "price_per_hour") not in values


def test_the_zones_page_lists_every_type_of_its_provider(stage: Stage, operator_page: Client) -> None:
    values = Form(operator_page.get(page_of(stage.zone)).content.decode()).values

    assert values[cell(stage, stage.zone, "price_per_hour")] == "0.787500"
    assert values[cell(stage, stage.zone, "price_per_hour", stage.h100)] == ""


def test_saving_a_page_unchanged_changes_nothing(stage: Stage, operator_page: Client) -> None:
    before = list(InstanceAvailability.objects.values())

    assert posted(operator_page, stage.l4).status_code == 302
    assert posted(operator_page, stage.zone).status_code == 302

    assert list(InstanceAvailability.objects.values()) == before


@pytest.mark.parametrize("page", ["l4", "zone"])
def test_an_offer_is_repriced_on_either_page(stage: Stage, operator_page: Client, page: str) -> None:
    response = posted(
        operator_page,
        getattr(stage, page),
        **{cell(stage, stage.zone, "price_per_hour"): "0.9", cell(stage, stage.zone, "stock"): "shortage"},
    )

    assert response.status_code == 302
    assert (stage.offer.price_per_hour, stage.offer.stock) == (Decimal("0.9"), "shortage")
    assert "offer" in LogEntry.objects.get().get_change_message()


def test_a_price_makes_an_offer(stage: Stage, operator_page: Client) -> None:
    posted(operator_page, stage.l4, **{cell(stage, stage.bare_zone, "price_per_hour"): "0.8"})

    made = InstanceAvailability.objects.get(zone=stage.bare_zone)
    assert (made.instance_type, made.price_per_hour, made.currency) == (stage.l4, Decimal("0.8"), "EUR")


def test_a_spot_price_is_set_and_taken_back(stage: Stage, operator_page: Client) -> None:
    spot_price = cell(stage, stage.zone, "spot_price_per_hour")

    posted(operator_page, stage.l4, **{spot_price: "0.3"})
    assert stage.offer.spot_price_per_hour == Decimal("0.3")

    posted(operator_page, stage.l4, **{spot_price: ""})
    assert stage.offer.spot_price_per_hour is None


def test_a_page_that_was_open_during_a_sync_does_not_bring_the_old_price_back(
    stage: Stage, operator_page: Client
) -> None:
    values = Form(operator_page.get(page_of(stage.l4)).content.decode()).values
    InstanceAvailability.objects.update(price_per_hour="0.9", stock="shortage")

    operator_page.post(page_of(stage.l4), {**values, cell(stage, stage.zone, "spot_price_per_hour"): "0.3"})

    assert (stage.offer.price_per_hour, stage.offer.stock) == (Decimal("0.9"), "shortage")
    assert stage.offer.spot_price_per_hour == Decimal("0.3")


def test_the_types_page_tells_of_our_tries_and_of_what_was_edited(stage: Stage, viewer_page: Client) -> None:
    InstanceAvailability.objects.update(
        last_stockout_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
        vanished_at=datetime(2026, 11, 24, 8, tzinfo=UTC),
        synced={"price_per_hour": "0.5", "currency": "EUR", "spot_price_per_hour": None},
    )

    html = viewer_page.get(page_of(stage.l4)).content.decode()

    assert "sold out 2026-11-23 12:00" in html
    assert "synced, but for price_per_hour; not listed since 2026-11-24 08:00" in html


def test_the_list_of_types_tells_what_has_vanished_and_does_not_price_it(stage: Stage, viewer_page: Client) -> None:
    at = datetime(2026, 11, 24, 8, tzinfo=UTC)
    InstanceAvailability.objects.update(vanished_at=at)
    InstanceType.objects.filter(pk=stage.l4.pk).update(vanished_at=at)

    html = viewer_page.get(list_of(InstanceType)).content.decode()

    assert "No longer listed by the provider, since 2026-11-24 08:00" in html
    assert "0.7875 EUR" not in html


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("vanished_at__isempty=0", ["L4-1-24G"]),
        ("vanished_at__isempty=1", ["H100-1-80G"]),
        ("source=hand", ["H100-1-80G"]),
        ("source=synced", ["L4-1-24G"]),
    ],
)
def test_types_are_filtered_by_what_became_of_them(
    stage: Stage, viewer_page: Client, query: str, names: list[str]
) -> None:
    InstanceType.objects.filter(pk=stage.l4.pk).update(
        vanished_at=datetime(2026, 11, 24, 8, tzinfo=UTC), synced={"gpu_count": 1}
    )

    shown = viewer_page.get(f"{list_of(InstanceType)}?{query}").context["cl"].result_list

    assert [row.name for row in shown] == names


def test_an_empty_price_withdraws_an_offer(stage: Stage, operator_page: Client) -> None:
    posted(operator_page, stage.zone, **{cell(stage, stage.zone, "price_per_hour"): ""})

    assert not InstanceAvailability.objects.exists()


def test_a_wrong_price_is_shown_where_it_is_and_nothing_is_saved(stage: Stage, operator_page: Client) -> None:
    changes = {cell(stage, stage.zone, "price_per_hour"): "-1", "gpu_name": "L5"}

    response = posted(operator_page, stage.l4, **changes)

    assert response.status_code == 200
    html = response.content.decode()
    assert "Look at the offers below." in html
    assert "greater than or equal to 0" in html
    assert stage.offer.price_per_hour == Decimal("0.7875")
    assert InstanceType.objects.get(pk=stage.l4.pk).gpu_name == "L4"


def test_a_zone_that_is_newer_than_the_page_keeps_its_offer(stage: Stage, operator_page: Client) -> None:
    values = Form(operator_page.get(page_of(stage.l4)).content.decode()).values
    new_zone = Zone.objects.create(region=stage.region, name="fr-par-3")
    InstanceAvailability.objects.create(instance_type=stage.l4, zone=new_zone, price_per_hour=1, currency="EUR")

    operator_page.post(page_of(stage.l4), values)

    assert InstanceAvailability.objects.filter(zone=new_zone).exists()


def test_a_page_costs_the_same_queries_with_any_number_of_offers(
    stage: Stage, operator_page: Client, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    with django_assert_max_num_queries(30) as before:
        operator_page.get(page_of(stage.l4))
    for number in range(9):
        zone = Zone.objects.create(region=stage.region, name=f"z{number}")
        InstanceAvailability.objects.create(instance_type=stage.l4, zone=zone, price_per_hour=1, currency="EUR")

    with django_assert_max_num_queries(len(before)):
        operator_page.get(page_of(stage.l4))


def test_a_viewer_sees_offers_and_can_edit_none(stage: Stage, viewer_page: Client) -> None:
    html = viewer_page.get(page_of(stage.l4)).content.decode()

    assert "0.787500" in html
    assert "offer-" not in html
    values = {cell(stage, stage.zone, "price_per_hour"): "0.1", "name": "x", "gpu_name": "x"}
    for row in (stage.l4, stage.zone):
        assert viewer_page.post(page_of(row), values).status_code == 403
    assert stage.offer.price_per_hour == Decimal("0.7875")


# --- writing ------------------------------------------------------------------------------------------------------


def test_a_viewer_saves_and_deletes_nothing(stage: Stage, viewer_page: Client) -> None:
    for row in rows_of(stage):
        assert viewer_page.post(page_of(row), {}).status_code == 403, row
        delete = reverse(f"admin:catalog_{row._meta.model_name}_delete", args=[row.pk])
        assert viewer_page.post(delete, {"post": "yes"}).status_code == 403, row


def test_a_type_and_a_key_are_added(stage: Stage, operator_page: Client) -> None:
    kind = {"provider": stage.aws.pk, "name": "g6.xlarge", "gpu_name": "L4", "gpu_count": 1, "vram_per_gpu_gb": 24}
    kind["relative_speed"] = "1"
    key = {"provider": stage.aws.pk, "name": "me", "public_key": f"{ED25519}\r\n"}

    operator_page.post(reverse("admin:catalog_instancetype_add"), kind)
    operator_page.post(reverse("admin:catalog_sshkey_add"), key)

    assert InstanceType.objects.filter(provider=stage.aws, name="g6.xlarge").exists()
    assert SshKey.objects.get(name="me").public_key == ED25519


def test_a_private_key_is_refused(stage: Stage, operator_page: Client) -> None:
    key = {"provider": stage.aws.pk, "name": "me", "public_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}

    response = operator_page.post(reverse("admin:catalog_sshkey_add"), key)

    assert "This is a private key" in response.content.decode()
    assert SshKey.objects.count() == 1


def test_the_provider_of_a_row_stays_what_it_is(stage: Stage, operator_page: Client) -> None:
    posted(operator_page, stage.l4, provider=str(stage.aws.pk))
    posted(operator_page, stage.region, provider=str(stage.aws.pk))

    assert InstanceType.objects.get(pk=stage.l4.pk).provider == stage.scaleway
    assert Region.objects.get(pk=stage.region.pk).provider == stage.scaleway


def test_deleting_a_type_takes_its_offers_along(stage: Stage, operator_page: Client) -> None:
    path = reverse("admin:catalog_instancetype_delete", args=[stage.l4.pk])

    assert "L4-1-24G in fr-par-1" in operator_page.get(path).content.decode()
    assert operator_page.post(path, {"post": "yes"}).status_code == 302

    assert not InstanceType.objects.filter(pk=stage.l4.pk).exists()
    assert not InstanceAvailability.objects.exists()


def test_what_is_in_use_is_not_deleted(stage: Stage, operator_page: Client) -> None:
    path = reverse("admin:catalog_region_delete", args=[stage.region.pk])

    operator_page.post(path, {"post": "yes"})

    assert Region.objects.filter(pk=stage.region.pk).exists()


@pytest.mark.parametrize("name", ["l4", "model"])
def test_rows_are_switched_off_and_on_from_the_list(stage: Stage, operator_page: Client, name: str) -> None:
    row: Any = getattr(stage, name)

    for action, expected in (("deactivate", False), ("activate", True)):
        body = {"action": action, "_selected_action": str(row.pk)}
        operator_page.post(list_of(type(row)), body)
        row.refresh_from_db()
        assert row.is_active is expected


def test_a_viewer_switches_nothing_off(stage: Stage, viewer_page: Client) -> None:
    body = {"action": "deactivate", "_selected_action": str(stage.l4.pk)}

    viewer_page.post(list_of(InstanceType), body)

    assert InstanceType.objects.get(pk=stage.l4.pk).is_active


def test_an_action_on_nonsense_is_a_bad_request(stage: Stage, operator_page: Client) -> None:
    body = {"action": "deactivate", "_selected_action": "nonsense"}

    assert operator_page.post(list_of(InstanceType), body).status_code == 400
