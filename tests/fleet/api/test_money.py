from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from fleet.models import Instance, Leak, Rental, Sweep
from tests.inventiv.api_stage import MakeInstances

pytestmark = pytest.mark.django_db


def rent(instance: Instance, *, hours: int, kind: str = "server", price: str = "2", **fields: Any) -> Rental:
    """Something that an instance rented `hours` ago, for one hour."""
    since = timezone.now() - timedelta(hours=hours)
    return Rental.objects.create(
        provider=instance.provider,
        zone=instance.zone,
        kind=kind,
        resource_id=f"{kind}-{hours}",
        attempt=instance.attempts.get(),
        price_per_hour=Decimal(price),
        currency="EUR",
        since=since,
        **{"until": since + timedelta(hours=1), **fields},
    )


def leak(rental: Rental, **fields: Any) -> Leak:
    now = timezone.now()
    return Leak.objects.create(rental=rental, reason="nobody's", found_at=now, next_attempt_at=now, **fields)


def ids(response: Any) -> set[str]:
    assert response.status_code == 200, response.json()
    return {row["id"] for row in response.json()["results"]}


def test_an_instance_says_what_it_has_cost_so_far(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    rent(instance, hours=3)
    rent(instance, hours=2, kind="volume", price="0.01")

    assert viewer.get(f"/instances/{instance.pk}").json()["cost_so_far"] == {"EUR": "2.0100"}


def test_a_leak_says_what_it_is_where_since_when_and_what_it_costs(
    viewer: APIClient, make_instances: MakeInstances
) -> None:
    (instance,) = make_instances(1)
    row = leak(rent(instance, hours=3), done="step 2", last_error="capacity")

    body = viewer.get(f"/leaks/{row.pk}").json()

    assert (body["reason"], body["done"], body["last_error"], body["ended_at"]) == (
        "nobody's",
        "step 2",
        "capacity",
        None,
    )
    resource = body["resource"]
    assert (resource["kind"], resource["resource_id"], resource["zone"]) == ("server", "server-3", "eu-1")
    assert (resource["account"], resource["instance_id"]) == (None, str(instance.pk))
    assert resource["cost_so_far"] == {"EUR": "2.0000"}
    assert not {"lock_token", "tag"} & body.keys()


def test_what_no_attempt_knows_and_has_no_price_is_shown_too(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    row = rent(instance, hours=1)
    Rental.objects.filter(pk=row.pk).update(attempt=None, price_per_hour=None)

    body = viewer.get(f"/rentals/{row.pk}").json()

    assert (body["attempt_id"], body["instance_id"], body["cost_so_far"]) == (None, None, {})


def test_leaks_are_filtered_by_whether_they_are_over_and_by_what_they_are(
    viewer: APIClient, make_instances: MakeInstances
) -> None:
    (instance,) = make_instances(1)
    now_leaking = leak(rent(instance, hours=3))
    over = leak(rent(instance, hours=2, kind="volume"), ended_at=timezone.now())

    assert ids(viewer.get("/leaks", {"leaking": "true"})) == {str(now_leaking.pk)}
    assert ids(viewer.get("/leaks", {"leaking": "false"})) == {str(over.pk)}
    assert ids(viewer.get("/leaks", {"kind": "volume"})) == {str(over.pk)}
    assert ids(viewer.get("/leaks", {"zone": "eu-1", "provider": "mock"})) == {str(now_leaking.pk), str(over.pk)}
    assert ids(viewer.get("/leaks", {"zone": "elsewhere"})) == set()


def test_the_ledger_is_filtered_by_instance_and_by_whether_it_bills(
    viewer: APIClient, make_instances: MakeInstances
) -> None:
    one, other = make_instances(2)
    running, over = rent(one, hours=3, until=None), rent(other, hours=2)

    assert ids(viewer.get("/rentals", {"billing": "true"})) == {str(running.pk)}
    assert ids(viewer.get("/rentals", {"instance_id": str(other.pk)})) == {str(over.pk)}


def test_sweeps_say_when_each_place_was_last_listed(viewer: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)
    Sweep.objects.create(zone=instance.zone, next_attempt_at=timezone.now(), last_error="auth: revoked", servers=3)

    (row,) = viewer.get("/sweeps", {"provider": "mock"}).json()["results"]

    assert (row["provider"], row["region"], row["zone"], row["account"]) == ("mock", "eu", "eu-1", None)
    assert (row["swept_at"], row["servers"], row["last_error"]) == (None, 3, "auth: revoked")
    assert ids(viewer.get("/sweeps", {"zone": "elsewhere"})) == set()
