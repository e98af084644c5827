from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from catalog.models import InstanceAvailability
from fleet.models import Deployment, DeploymentRequest, Instance
from fleet.states import Status
from inventiv.accounts.models import User
from tests.inventiv.api_stage import Catalogue, MakeInstances, with_key

pytestmark = pytest.mark.django_db


def faults(response: Any) -> dict[str, str]:
    """Of a problem: which field is at fault, and the code of what is wrong with it."""
    assert response["Content-Type"] == "application/problem+json"
    return {fault["field"]: fault["code"] for fault in response.json()["errors"]}


def nothing_was_written() -> bool:
    return not (DeploymentRequest.objects.exists() or Deployment.objects.exists() or Instance.objects.exists())


# --- POST /deployments ----------------------------------------------------------------------------------------------


def test_it_accepts_a_model_and_says_where_to_look(operator: APIClient, catalogue: Catalogue) -> None:
    response = operator.post("/deployments", {"model": "acme/small"})

    assert response.status_code == 202, response.json()
    answer = response.json()
    (made,) = answer["deployments"]
    instance = Instance.objects.get()
    assert made["instance_id"] == str(instance.pk)
    assert made["status"] == "PROVISIONING"
    assert answer["plan"]["chosen"]["offer"]["instance_type"] == "CHEAP"
    assert response["Location"].endswith(f"/deployments/{made['id']}")
    assert operator.get(response["Location"]).json()["instance_id"] == str(instance.pk)
    assert operator.get(made["links"]["instance"]).json()["id"] == str(instance.pk)


def test_it_makes_as_many_deployments_as_replicas(operator: APIClient, catalogue: Catalogue) -> None:
    response = operator.post("/deployments", {"model": "acme/small", "replicas": 3})

    made = {row["instance_id"] for row in response.json()["deployments"]}
    assert len(made) == 3
    listed = operator.get(response["Location"]).json()["results"]
    assert {row["instance_id"] for row in listed} == made


def test_it_keeps_to_the_limits(operator: APIClient, catalogue: Catalogue) -> None:
    limits = {"providers": ["mock"], "instance_types": ["DEAR"], "max_price_per_hour": "3.50"}
    response = operator.post("/deployments", {"model": "acme/small", "limits": limits})

    assert response.status_code == 202, response.json()
    assert Instance.objects.get().instance_type == catalogue.dear
    assert Instance.objects.get().price_per_hour == Decimal(3)


def test_it_remembers_who_asked(catalogue: Catalogue) -> None:
    with_key("write").post("/deployments", {"model": "acme/small"})

    request = DeploymentRequest.objects.get()
    assert request.actor == "admin@example.com (API key script)"
    assert request.requested_by == User.objects.get(email="admin@example.com")


def test_it_answers_under_the_prefix_by_which_it_was_reached(operator: APIClient, catalogue: Catalogue) -> None:
    response = operator.post("/api/backend/deployments", {"model": "acme/small"})

    assert "/api/backend/deployments/" in response["Location"]
    assert operator.get(response["Location"]).status_code == 200


# --- Idempotency-Key ------------------------------------------------------------------------------------------------


def test_a_repeated_request_never_rents_twice(operator: APIClient, catalogue: Catalogue) -> None:
    first = operator.post("/deployments", {"model": "acme/small"}, headers={"Idempotency-Key": "k1"})
    again = operator.post("/deployments", {"model": "acme/small"}, headers={"Idempotency-Key": "k1"})

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again["Location"] == first["Location"]
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert Instance.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_twins_that_race_rent_once(catalogue: Catalogue) -> None:
    callers = [with_key("write") for _ in range(6)]

    def ask(client: APIClient) -> Any:
        try:
            return client.post("/deployments", {"model": "acme/small"}, headers={"Idempotency-Key": "k1"})
        finally:
            connection.close()

    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(ask, callers))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer for answer in answers) == 1
    assert Instance.objects.count() == 1


def test_a_repeated_key_with_another_body_is_refused(operator: APIClient, catalogue: Catalogue) -> None:
    operator.post("/deployments", {"model": "acme/small"}, headers={"Idempotency-Key": "k1"})
    other = operator.post("/deployments", {"model": "acme/small", "replicas": 2}, headers={"Idempotency-Key": "k1"})

    assert other.status_code == 422
    assert faults(other) == {"Idempotency-Key": "idempotency"}
    assert Instance.objects.count() == 1


def test_an_idempotency_key_belongs_to_its_user(operator: APIClient, admin: APIClient, catalogue: Catalogue) -> None:
    for client in (operator, admin):
        client.post("/deployments", {"model": "acme/small"}, headers={"Idempotency-Key": "k1"})
    assert Instance.objects.count() == 2


@pytest.mark.parametrize("key", ["", "k" * 256, "k\u00e9y", "a b"])
def test_a_strange_idempotency_key_is_refused(operator: APIClient, catalogue: Catalogue, key: str) -> None:
    response = operator.post("/deployments", {"model": "acme/small"}, headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert list(faults(response)) == ["Idempotency-Key"]
    assert nothing_was_written()


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        ({}, "model", 400),
        ({"model": 7}, "model", 422),
        ({"model": None}, "model", 400),
        ({"model": ["acme/small"]}, "model", 400),
        ({"model": "acme/small\x00"}, "model", 400),
        ({"model": "x" * 10_000}, "model", 400),
        ({"model": "acme/unknown"}, "model", 422),
        ({"model": "acme/giant"}, "model", 422),
        ({"model": "acme/small", "replicas": 0}, "replicas", 400),
        ({"model": "acme/small", "replicas": 65}, "replicas", 400),
        ({"model": "acme/small", "replicas": "many"}, "replicas", 400),
        ({"model": "acme/small", "replicas": 1.5}, "replicas", 400),
        ({"model": "acme/small", "replicas": 10**400}, "replicas", 400),
        ({"model": "acme/small", "replicas": None}, "replicas", 400),
        ({"model": "acme/small", "context_length": 2**31}, "context_length", 400),
        ({"model": "acme/small", "context_length": 2**31 - 1}, "context_length", 422),
        ({"model": "acme/small", "context_length": -1}, "context_length", 400),
        ({"model": "acme/small", "concurrency": 0}, "concurrency", 400),
        ({"model": "acme/small", "colour": "red"}, "colour", 400),
        ({"model": "acme/small", "limits": {"zone": ["eu-1"]}}, "limits.zone", 400),
        ({"model": "acme/small", "limits": []}, "limits", 400),
        ({"model": "acme/small", "limits": {"zones": "eu-1"}}, "limits.zones", 400),
        ({"model": "acme/small", "limits": {"zones": ["nowhere"]}}, "limits.zones", 422),
        ({"model": "acme/small", "limits": {"providers": ["mock"], "zones": ["fr-par-2"]}}, "limits.zones", 422),
        ({"model": "acme/small", "limits": {"providers": ["azure"]}}, "limits.providers", 422),
        ({"model": "acme/small", "limits": {"max_price_per_hour": "NaN"}}, "limits.max_price_per_hour", 400),
        ({"model": "acme/small", "limits": {"max_price_per_hour": -1}}, "limits.max_price_per_hour", 400),
        ({"model": "acme/small", "limits": {"max_price_per_hour": "1e99"}}, "limits.max_price_per_hour", 400),
        ({"model": "acme/small", "limits": {"max_price_per_hour": "0.01"}}, "model", 422),
        ({"model": "acme/small", "limits": {"currency": "gold"}}, "limits.currency", 400),
    ],
)
def test_it_names_what_is_wrong_with_an_order(
    operator: APIClient, catalogue: Catalogue, body: Any, field: str, status: int
) -> None:
    response = operator.post("/deployments", body)
    assert (response.status_code, list(faults(response))) == (status, [field]), response.json()
    assert nothing_was_written()
    # The dry run says the same; only that nothing fits is a plan to it.
    dry = operator.post("/deployments/plan", body)
    fits_nothing = dry.status_code == 200 and dry.json()["chosen"] is None
    assert fits_nothing or faults(dry) == faults(response)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b'{"model": "\\ud800"}',
        b"[]",
        b"null",
        b'"model"',
        b"\xff\xfe",
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"replicas": ' + b"9" * 9000,
    ],
)
def test_a_malformed_body_is_refused(operator: APIClient, catalogue: Catalogue, body: bytes) -> None:
    response = operator.post("/deployments", body, content_type="application/json")
    assert response.status_code == 400, response.content
    assert response["Content-Type"] == "application/problem+json"
    assert nothing_was_written()


def test_another_media_type_is_refused(operator: APIClient, catalogue: Catalogue) -> None:
    response = operator.post("/deployments", "model=acme/small", content_type="application/x-www-form-urlencoded")
    assert response.status_code == 415
    assert nothing_was_written()


def test_what_fits_nothing_is_told_of_every_offer_why(operator: APIClient, catalogue: Catalogue) -> None:
    response = operator.post("/deployments", {"model": "acme/giant"})

    assert response.status_code == 422
    assert faults(response) == {"model": "nothing_fits"}
    rejected = response.json()["plan"]["rejected"]
    assert len(rejected) == InstanceAvailability.objects.count()
    assert all(row["reason"] for row in rejected)


# --- POST /deployments/plan -----------------------------------------------------------------------------------------


def test_a_plan_ranks_what_fits_and_writes_nothing(viewer: APIClient, catalogue: Catalogue) -> None:
    response = viewer.post("/deployments/plan", {"model": "acme/small", "limits": {"providers": ["mock"]}})

    assert response.status_code == 200, response.json()
    plan = response.json()
    assert [row["offer"]["instance_type"] for row in plan["ranked"]] == ["CHEAP", "DEAR"]
    assert plan["chosen"] == plan["ranked"][0]
    assert Decimal(plan["chosen"]["offer"]["price_per_hour"]) == 1
    assert plan["chosen"]["offer"]["stock"] == "available"
    assert [row["offer"]["provider"] for row in plan["rejected"]] == ["scaleway"]
    assert nothing_was_written()


def test_a_plan_of_spot_machines_has_their_prices_and_leaves_out_what_has_none(
    viewer: APIClient, catalogue: Catalogue
) -> None:
    InstanceAvailability.objects.filter(instance_type=catalogue.dear).update(spot_price_per_hour="0.9")
    body = {"model": "acme/small", "limits": {"spot": True}}

    plan = viewer.post("/deployments/plan", body).json()

    offers = [row["offer"] for row in plan["ranked"]]
    assert [(row["instance_type"], Decimal(row["price_per_hour"]), row["spot"]) for row in offers] == [
        ("DEAR", Decimal("0.9"), True)
    ]
    assert {row["code"] for row in plan["rejected"]} == {"no_spot"}


def test_a_plan_tells_what_was_learned_of_an_offer(viewer: APIClient, catalogue: Catalogue) -> None:
    at = timezone.now()
    InstanceAvailability.objects.filter(instance_type=catalogue.cheap).update(last_stockout_at=at)

    plan = viewer.post("/deployments/plan", {"model": "acme/small"}).json()

    assert datetime.fromisoformat(plan["chosen"]["offer"]["last_stockout_at"]) == at
    assert plan["chosen"]["offer"]["last_success_at"] is None


def test_a_deployment_whose_plan_was_stored_long_ago_still_shows_it(operator: APIClient, catalogue: Catalogue) -> None:
    made = operator.post("/deployments", {"model": "acme/small"}).json()["deployments"][0]
    request = DeploymentRequest.objects.get()
    for row in request.plan["ranked"] + request.plan["rejected"]:
        for name in ("spot", "spot_price_per_hour", "vanished_at", "last_success_at", "last_stockout_at"):
            del row["offer"][name]
    request.save()

    offer = operator.get(f"/deployments/{made['id']}").json()["plan"]["chosen"]["offer"]

    assert (offer["instance_type"], offer["spot"], offer["last_success_at"]) == ("CHEAP", False, None)


# --- reading --------------------------------------------------------------------------------------------------------


def test_deployments_are_filtered(viewer: APIClient, make_instances: MakeInstances) -> None:
    ready, failed = make_instances(1), make_instances(2, status=Status.FAILED)

    def found(**query: Any) -> set[str]:
        response = viewer.get("/deployments", query)
        assert response.status_code == 200, response.json()
        return {row["instance_id"] for row in response.json()["results"]}

    assert found(status="READY") == {str(row.pk) for row in ready}
    assert found(status=["READY", "FAILED"]) == {str(row.pk) for row in ready + failed}
    assert found(model="acme/small", provider="mock", zone="eu-1") == {str(row.pk) for row in ready + failed}
    assert found(instance_id=failed[0].pk) == {str(failed[0].pk)}
    assert found(model="acme/giant") == set()


def test_a_deployment_shows_its_plan(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    response = viewer.get(f"/deployments/{instance.deployment.pk}")
    assert response.json()["plan"] == {"chosen": None, "ranked": [], "rejected": []}


@pytest.mark.parametrize("ident", ["nonsense", "00000000-0000-0000-0000-000000000000", "%00", "1" * 400])
def test_an_unknown_deployment_is_not_found(viewer: APIClient, ident: str) -> None:
    response = viewer.get(f"/deployments/{ident}")
    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"


# --- retry ----------------------------------------------------------------------------------------------------------


def test_a_failed_deployment_is_asked_for_again(operator: APIClient, make_instances: MakeInstances) -> None:
    (failed,) = make_instances(1, status=Status.FAILED)
    response = operator.post(f"/deployments/{failed.deployment.pk}/retry")

    assert response.status_code == 202, response.json()
    assert response.json()["deployments"][0]["instance_id"] != str(failed.pk)


def test_a_repeated_retry_never_rents_twice(operator: APIClient, make_instances: MakeInstances) -> None:
    (failed,) = make_instances(1, status=Status.FAILED)
    path, headers = f"/deployments/{failed.deployment.pk}/retry", {"Idempotency-Key": "again"}
    first, again = operator.post(path, headers=headers), operator.post(path, headers=headers)

    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert Instance.objects.count() == 2


def test_a_deployment_that_serves_is_not_retried(operator: APIClient, make_instances: MakeInstances) -> None:
    (ready,) = make_instances(1)
    response = operator.post(f"/deployments/{ready.deployment.pk}/retry")
    assert response.status_code == 409
    assert faults(response) == {"deployment": "not_over"}


def test_an_unknown_deployment_is_not_retried(operator: APIClient, catalogue: Catalogue) -> None:
    assert operator.post(f"/deployments/{uuid.uuid4()}/retry").status_code == 404


# --- a session is guarded against other sites -----------------------------------------------------------------------


def test_a_session_needs_the_csrf_token_and_a_key_does_not(catalogue: Catalogue) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create(email="olga@example.com", role="operator"))
    response = browser.post("/deployments", {"model": "acme/small"}, content_type="application/json")

    assert response.status_code == 403
    assert "CSRF" in response.json()["detail"]
    assert nothing_was_written()
