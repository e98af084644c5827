from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import Instance
from fleet.states import Status
from tests.inventiv.api_stage import (
    AGENT_TOKEN_SHA256,
    BOOTSTRAP_SHA256,
    SEALED_ENGINE_KEY,
    Catalogue,
    MakeInstances,
)

pytestmark = pytest.mark.django_db


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.json()
    return [row["id"] for row in response.json()["results"]]


def test_it_lists_what_is_rented(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    (row,) = viewer.get("/instances").json()["results"]

    assert row["id"] == str(instance.pk)
    assert (row["status"], row["model"], row["provider"], row["zone"]) == ("READY", "acme/small", "mock", "eu-1")
    assert Decimal(row["price_per_hour"]) == 1
    assert row["ip_address"] == "127.77.0.9"


def test_it_is_filtered(viewer: APIClient, make_instances: MakeInstances) -> None:
    ready, failed = make_instances(1), make_instances(1, status=Status.FAILED)

    assert ids(viewer.get("/instances", {"status": "READY"})) == [str(ready[0].pk)]
    assert len(ids(viewer.get("/instances?status=READY&status=FAILED"))) == 2
    assert len(ids(viewer.get("/instances", {"model": "acme/small", "provider": "mock", "zone": "eu-1"}))) == 2
    assert ids(viewer.get("/instances", {"model": "acme/giant"})) == []
    assert ids(viewer.get("/instances", {"provider": "scaleway"})) == []
    assert ids(viewer.get("/instances", {"zone": "fr-par-2"})) == []
    assert ids(viewer.get("/instances", {"status": "FAILED"})) == [str(failed[0].pk)]


@pytest.mark.parametrize("field", ["created_at", "status", "price_per_hour"])
def test_it_is_ordered(viewer: APIClient, make_instances: MakeInstances, field: str) -> None:
    for number, status in enumerate([Status.READY, Status.FAILED, Status.BOOTING]):
        (row,) = make_instances(1, status=status)
        made = row.created_at + timedelta(minutes=(number * 2) % 3)
        Instance.objects.filter(pk=row.pk).update(price_per_hour=3 - number, created_at=made)

    rising = ids(viewer.get("/instances", {"ordering": field}))
    assert rising == [str(row.pk) for row in Instance.objects.order_by(field)]
    assert ids(viewer.get("/instances", {"ordering": f"-{field}"})) == rising[::-1]


def test_it_comes_in_pages_that_miss_none(viewer: APIClient, make_instances: MakeInstances) -> None:
    made = {str(row.pk) for row in make_instances(7)}
    Instance.objects.update(created_at=Instance.objects.earliest("created_at").created_at)  # a tie

    first = viewer.get("/instances", {"page_size": 3}).json()
    second = viewer.get(first["next"]).json()
    third = viewer.get(second["next"]).json()
    assert (first["count"], third["next"]) == (7, None)
    assert {row["id"] for page in (first, second, third) for row in page["results"]} == made


@pytest.mark.parametrize(
    ("query", "field", "status"),
    [
        ("status=SLEEPING", "status", 400),
        ("statsu=READY", "statsu", 400),
        ("model=", "model", 400),
        ("ordering=api_key", "ordering", 400),
        ("ordering=lock_token", "ordering", 400),
        ("model=a%00b", "model", 400),
        ("page=first", "page", 400),
        ("page=0", "page", 400),
        ("page=-1", "page", 400),
        ("page=" + "9" * 5000, "page", 400),
        ("page_size=0", "page_size", 400),
        ("page_size=201", "page_size", 400),
        ("page_size=all", "page_size", 400),
        ("page=99", "", 404),
    ],
)
def test_it_names_what_is_wrong_with_a_query(viewer: APIClient, query: str, field: str, status: int) -> None:
    response = viewer.get(f"/instances?{query}")
    assert response.status_code == status, response.json()
    assert [fault["field"] for fault in response.json()["errors"]] == ([field] if field else [])


def test_one_instance_tells_its_history(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    answer = viewer.get(f"/instances/{instance.pk}").json()

    assert [(row["from_status"], row["to_status"]) for row in answer["transitions"]] == [(None, "PROVISIONING")]
    (attempt,) = answer["attempts"]
    assert (attempt["ordinal"], attempt["zone"], attempt["instance_type"]) == (1, "eu-1", "CHEAP")


def test_no_secret_is_shown(admin: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    pages = [
        admin.get("/instances"),
        admin.get(f"/instances/{instance.pk}"),
        admin.delete(f"/instances/{instance.pk}"),
        admin.get("/deployments"),
        admin.get(f"/deployments/{instance.deployment.pk}"),
    ]
    for secret in (SEALED_ENGINE_KEY, AGENT_TOKEN_SHA256, BOOTSTRAP_SHA256, "lock_token", "sha256", "api_key"):
        assert not any(secret in page.content.decode() for page in pages), secret


# --- DELETE ---------------------------------------------------------------------------------------------------------


def test_an_instance_is_asked_to_end(operator: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    response = operator.delete(f"/instances/{instance.pk}")

    assert response.status_code == 202
    assert response.json()["termination_requested_at"] is not None
    assert response.json()["termination_actor"] == "operator@example.com"
    instance.refresh_from_db()
    assert instance.drain
    assert instance.status == Status.READY  # moving it is the orchestrator's


def test_ending_is_safe_to_repeat(operator: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    first, again = (operator.delete(f"/instances/{instance.pk}") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["termination_requested_at"] == first.json()["termination_requested_at"]


def test_ending_what_has_ended_changes_nothing(operator: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1, status=Status.TERMINATED)
    response = operator.delete(f"/instances/{instance.pk}")
    assert response.status_code == 202
    assert response.json()["status"] == "TERMINATED"
    assert response.json()["termination_requested_at"] is None


def test_an_end_may_be_made_immediate(operator: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    operator.delete(f"/instances/{instance.pk}")
    response = operator.delete(f"/instances/{instance.pk}?drain=false")
    assert response.status_code == 202
    assert response.json()["drain"] is False


@pytest.mark.parametrize("query", ["drain=perhaps", "drian=false"])
def test_a_wrong_query_ends_nothing(operator: APIClient, make_instances: MakeInstances, query: str) -> None:
    (instance,) = make_instances(1)
    response = operator.delete(f"/instances/{instance.pk}?{query}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == query.partition("=")[0]
    instance.refresh_from_db()
    assert instance.termination_requested_at is None


def test_a_viewer_ends_nothing(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    response = viewer.delete(f"/instances/{instance.pk}")
    assert response.status_code == 403
    assert "fleet.terminate_instance" in response.json()["detail"]
    instance.refresh_from_db()
    assert instance.termination_requested_at is None


@pytest.mark.parametrize("ident", ["nonsense", str(uuid.UUID(int=0))])
def test_an_unknown_instance_is_not_found(operator: APIClient, catalogue: Catalogue, ident: str) -> None:
    assert operator.get(f"/instances/{ident}").status_code == 404
    assert operator.delete(f"/instances/{ident}").status_code == 404


def test_what_filters_a_list_does_not_hide_one_instance(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    assert viewer.get(f"/instances/{instance.pk}?status=FAILED&ordering=nonsense").status_code == 200


def test_its_page_shows_who_spoke_for_it_without_being_it(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    at = timezone.now()
    instance.heartbeat_refusals.create(reason="token", address="203.0.113.9", first_at=at, last_at=at, times=4)

    (refusal,) = viewer.get(f"/instances/{instance.pk}").json()["heartbeat_refusals"]

    assert (refusal["reason"], refusal["address"], refusal["times"]) == ("token", "203.0.113.9", 4)
