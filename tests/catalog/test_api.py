"""The catalogue over REST: who may read and write it, what is refused, and that lists cost the same at any length."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone
from fleet.models import Instance
from tests.catalog.stage import ED25519, Stage, make_model

NOBODY = "00000000-0000-4000-8000-000000000000"
LISTS = ["/models", "/providers", "/regions", "/zones", "/instance-types", "/ssh-keys"]
NEW_MODEL = {
    "name": "Tiny",
    "model_id": "acme/tiny",
    "context_length": 4096,
    "parameters": 1000,
    "precision": "bf16",
    "required_vram_gb": 1,
}


def faults(response: Any) -> dict[str, str]:
    return {fault["field"]: fault["message"] for fault in response.json()["errors"]}


# --- reading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_a_viewer_reads_every_list(stage: Stage, viewer: APIClient, path: str) -> None:
    response = viewer.get(path)

    assert response.status_code == 200
    assert response.json()["count"] >= 1


@pytest.mark.parametrize("path", LISTS)
def test_nobody_reads_without_a_login(stage: Stage, path: str) -> None:
    assert APIClient().get(path).status_code == 401


def test_an_instance_type_lists_its_offers_with_price_stock_and_zone(stage: Stage, viewer: APIClient) -> None:
    row = viewer.get(f"/instance-types/{stage.l4.pk}").json()

    assert (row["provider"], row["gpu_name"], row["vram_gb"]) == ("scaleway", "L4", 24)
    offer = row["availability"][0]
    assert offer.pop("updated_at")
    assert offer == {
        "zone_id": str(stage.zone.pk),
        "zone": "fr-par-1",
        "region": "fr-par",
        "price_per_hour": "0.787500",
        "currency": "EUR",
        "spot_price_per_hour": None,
        "stock": "scarce",
        "vanished_at": None,
        "last_success_at": None,
        "last_stockout_at": None,
        "edited_by_hand": ["price_per_hour", "currency", "spot_price_per_hour"],
    }


def test_an_instance_type_tells_what_has_vanished_and_what_is_edited(stage: Stage, viewer: APIClient) -> None:
    at = timezone.now()
    synced = {"price_per_hour": "0.5", "currency": "EUR", "spot_price_per_hour": None}
    InstanceAvailability.objects.update(vanished_at=at, synced=synced)
    InstanceType.objects.filter(pk=stage.l4.pk).update(
        vanished_at=at, synced={"gpu_name": "L4", "gpu_count": 1, "vram_per_gpu_gb": 24}
    )

    (row,) = viewer.get("/instance-types?vanished=true").json()["results"]

    assert (row["name"], row["edited_by_hand"]) == ("L4-1-24G", [])
    assert datetime.fromisoformat(row["vanished_at"]) == at
    assert row["availability"][0]["edited_by_hand"] == ["price_per_hour"]
    assert [row["name"] for row in viewer.get("/instance-types?vanished=false").json()["results"]] == ["H100-1-80G"]


def test_a_zone_names_its_region_and_provider(stage: Stage, viewer: APIClient) -> None:
    assert viewer.get(f"/zones/{stage.zone.pk}").json() == {
        "id": str(stage.zone.pk),
        "provider": "scaleway",
        "region": "fr-par",
        "region_id": str(stage.region.pk),
        "name": "fr-par-1",
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("/instance-types?zone=fr-par-1", ["L4-1-24G"]),
        ("/instance-types?provider=aws", []),
        ("/instance-types?gpu_name=H100", ["H100-1-80G"]),
        ("/instance-types?ordering=-vram_per_gpu_gb", ["H100-1-80G", "L4-1-24G"]),
        ("/zones?provider=scaleway", ["fr-par-1", "fr-par-2"]),
        ("/zones?region=us-east-1", ["us-east-1a"]),
        ("/regions?provider=aws", ["us-east-1"]),
        ("/ssh-keys?provider=aws", []),
        ("/models?search=LLAMA-3.1", ["meta-llama/Llama-3.1-8B-Instruct"]),
        ("/models?model_id=meta-llama/Llama-3.1-8B-Instruct", ["meta-llama/Llama-3.1-8B-Instruct"]),
        ("/models?is_active=false", []),
    ],
)
def test_lists_are_filtered_and_ordered(stage: Stage, viewer: APIClient, query: str, names: list[str]) -> None:
    assert [row["name"] for row in viewer.get(query).json()["results"]] == names


@pytest.mark.parametrize("path", ["/models/nonsense", f"/models/{NOBODY}", f"/zones/{NOBODY}"])
def test_what_does_not_exist_is_404(stage: Stage, viewer: APIClient, path: str) -> None:
    assert viewer.get(path).status_code == 404


def _grow(stage: Stage, number: int) -> None:
    provider = Provider.objects.create(name=f"p{number}")
    region = Region.objects.create(provider=provider, name="r")
    zones = [Zone.objects.create(region=region, name=f"z{i}") for i in range(3)]
    kind = InstanceType.objects.create(provider=provider, name="t", gpu_name="g", gpu_count=1, vram_per_gpu_gb=1)
    for zone in zones:
        InstanceAvailability.objects.create(instance_type=kind, zone=zone, price_per_hour=1, currency="EUR")
    SshKey.objects.create(provider=provider, name="k", public_key=ED25519)
    make_model(f"acme/m{number}")


@pytest.mark.parametrize("path", LISTS)
def test_a_list_costs_the_same_queries_at_any_length(
    stage: Stage, viewer: APIClient, path: str, django_assert_num_queries: Callable[[int], Any]
) -> None:
    # session, user, count, rows; and the offers of all types at once
    queries = 5 if path == "/instance-types" else 4
    with django_assert_num_queries(queries):
        few = viewer.get(path).json()["count"]
    for number in range(12):
        _grow(stage, number)

    with django_assert_num_queries(queries):
        many = viewer.get(path).json()["count"]

    assert many >= few + 12


# --- writing ------------------------------------------------------------------------------------------------------


def test_an_operator_keeps_the_catalogue_up_to_date(stage: Stage, operator: APIClient) -> None:
    region = operator.post("/regions", {"provider": "scaleway", "name": "pl-waw"})
    zone = operator.post("/zones", {"region_id": region.json()["id"], "name": "pl-waw-2"})
    kind = operator.post(
        "/instance-types",
        {"provider": "scaleway", "name": "L40S-1-48G", "gpu_name": "L40S", "gpu_count": 1, "vram_per_gpu_gb": 48},
    )
    offer = operator.put(
        f"/instance-types/{kind.json()['id']}/availability/{zone.json()['id']}",
        {"price_per_hour": "1.469916", "currency": "EUR", "stock": "available"},
    )

    assert [answer.status_code for answer in (region, zone, kind, offer)] == [201, 201, 201, 200]
    row = InstanceAvailability.objects.get(zone__name="pl-waw-2")
    assert (row.instance_type.name, row.price_per_hour, row.stock) == ("L40S-1-48G", Decimal("1.469916"), "available")


def test_an_offer_is_repriced_and_withdrawn(stage: Stage, operator: APIClient) -> None:
    path = f"/instance-types/{stage.l4.pk}/availability/{stage.zone.pk}"

    operator.put(path, {"price_per_hour": "0.9", "currency": "USD", "spot_price_per_hour": "0.3"})
    assert (stage.offer.price_per_hour, stage.offer.currency) == (Decimal("0.9"), "USD")
    assert stage.offer.spot_price_per_hour == Decimal("0.3")

    assert operator.delete(path).status_code == 204
    assert not InstanceAvailability.objects.exists()
    assert operator.delete(path).status_code == 404


def test_a_model_is_created_changed_and_deleted(stage: Stage, operator: APIClient) -> None:
    created = operator.post("/models", NEW_MODEL)
    path = f"/models/{created.json()['id']}"

    changed = operator.patch(path, {"is_active": False, "layers": 12})

    assert (created.status_code, changed.status_code) == (201, 200)
    assert LlmModel.objects.filter(model_id="acme/tiny", is_active=False, layers=12).exists()
    assert operator.delete(path).status_code == 204


def test_an_ssh_key_is_added_with_the_instant(stage: Stage, operator: APIClient) -> None:
    created = operator.post("/ssh-keys", {"provider": "aws", "name": "me", "public_key": f"{ED25519}\n"})

    assert created.status_code == 201
    assert created.json()["created_at"].startswith("20")
    assert created.json()["public_key"] == ED25519


def test_only_an_admin_changes_what_a_provider_is(stage: Stage, operator: APIClient, admin: APIClient) -> None:
    path = f"/providers/{stage.aws.pk}"

    assert operator.patch(path, {"description": "x"}).status_code == 403
    assert admin.patch(path, {"description": "x"}).status_code == 200


def _addresses(stage: Stage) -> list[str]:
    rows = {
        "models": stage.model,
        "providers": stage.scaleway,
        "regions": stage.region,
        "zones": stage.zone,
        "instance-types": stage.l4,
        "ssh-keys": stage.ssh_key,
    }
    return [f"/{name}/{row.pk}" for name, row in rows.items()]


def test_a_viewer_writes_nothing(stage: Stage, viewer: APIClient) -> None:
    offer = f"/instance-types/{stage.l4.pk}/availability/{stage.zone.pk}"

    for path, method in itertools.product([*_addresses(stage), offer], ("put", "delete")):
        assert getattr(viewer, method)(path, {}).status_code == 403, (method, path)
    for path in LISTS:
        assert viewer.post(path, {}).status_code == 403, path


@pytest.mark.parametrize("name", ["providers", "regions", "zones", "instance-types"])
def test_what_is_in_use_is_not_deleted(stage: Stage, admin: APIClient, name: str) -> None:
    _in_use(stage)

    path = next(path for path in _addresses(stage) if path.startswith(f"/{name}/"))
    response = admin.delete(path)

    assert response.status_code == 409
    assert admin.get(path).status_code == 200


def _in_use(stage: Stage) -> None:
    Instance.objects.create(
        provider=stage.scaleway,
        zone=stage.zone,
        instance_type=stage.l4,
        gpu_profile={},
        price_per_hour=1,
        currency="EUR",
        next_attempt_at=timezone.now(),
    )


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model_id": "meta-llama/Llama-3.1-8B-Instruct"}, "model_id"),
        ({"model_id": "../etc/passwd"}, "model_id"),
        ({"model_id": "a b"}, "model_id"),
        ({"context_length": 0}, "context_length"),
        ({"parameters": -1}, "parameters"),
        ({"parameters": 10**30}, "parameters"),
        ({"required_vram_gb": 2**31}, "required_vram_gb"),
        ({"precision": "fp1"}, "precision"),
        ({"attention_heads": 0}, "attention_heads"),
        ({"name": "\x00"}, "name"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_senseless_model_is_refused_by_field(
    stage: Stage, operator: APIClient, change: dict[str, Any], field: str
) -> None:
    response = operator.post("/models", {**NEW_MODEL, **change})

    assert response.status_code == 400
    assert field in faults(response)
    assert LlmModel.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"price_per_hour": "-1"}, "price_per_hour"),
        ({"price_per_hour": "NaN"}, "price_per_hour"),
        ({"currency": "XXX"}, "currency"),
        ({"stock": "plenty"}, "stock"),
        ({"zone": "fr-par-2", "colour": 1}, "colour"),
    ],
)
def test_a_senseless_offer_is_refused_by_field(
    stage: Stage, operator: APIClient, change: dict[str, Any], field: str
) -> None:
    body = {"price_per_hour": "1", "currency": "EUR", "stock": "available", **change}

    response = operator.put(f"/instance-types/{stage.l4.pk}/availability/{stage.bare_zone.pk}", body)

    assert response.status_code == 400
    assert field in faults(response)


def test_a_zone_of_another_provider_is_no_offer(stage: Stage, operator: APIClient) -> None:
    body = {"price_per_hour": "1", "currency": "EUR"}

    response = operator.put(f"/instance-types/{stage.l4.pk}/availability/{stage.aws_zone.pk}", body)

    assert response.status_code == 400
    assert faults(response) == {"zone_id": "This zone is another provider's."}


@pytest.mark.parametrize("provider", ["azure", "\x00", 7, None, ["scaleway"], {"name": "scaleway"}])
def test_an_unknown_provider_is_refused(stage: Stage, operator: APIClient, provider: Any) -> None:
    response = operator.post("/regions", {"provider": provider, "name": "x"})

    assert response.status_code == 400
    assert "provider" in faults(response)


def test_a_name_is_given_once_per_provider(stage: Stage, operator: APIClient) -> None:
    assert operator.post("/regions", {"provider": "scaleway", "name": "fr-par"}).status_code == 400
    assert operator.post("/regions", {"provider": "aws", "name": "fr-par"}).status_code == 201
    assert operator.post("/zones", {"region_id": str(stage.region.pk), "name": "fr-par-1"}).status_code == 400


def test_what_belongs_to_a_provider_stays_there(stage: Stage, operator: APIClient) -> None:
    moved = [
        operator.patch(f"/regions/{stage.region.pk}", {"provider": "aws"}),
        operator.patch(f"/instance-types/{stage.l4.pk}", {"provider": "aws"}),
        operator.patch(f"/zones/{stage.zone.pk}", {"region_id": str(stage.aws_zone.region_id)}),
        operator.patch(f"/ssh-keys/{stage.ssh_key.pk}", {"provider": "aws"}),
    ]

    assert [next(iter(faults(answer))) for answer in moved] == ["provider", "provider", "region_id", "provider"]
    assert operator.patch(f"/zones/{stage.zone.pk}", {"name": "fr-par-9"}).status_code == 200


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ssh-ed25519 AAAA ops", "no public key"),
        ("hello", "no public key"),
        (f"{ED25519}\n{ED25519}", "one line"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "private key"),
    ],
)
def test_what_is_no_public_key_is_refused(stage: Stage, operator: APIClient, key: str, words: str) -> None:
    response = operator.post("/ssh-keys", {"provider": "aws", "name": "me", "public_key": key})

    assert response.status_code == 400
    assert words in faults(response)["public_key"]
