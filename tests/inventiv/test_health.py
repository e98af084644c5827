from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from catalog.models import Provider, Region, Zone
from fleet.models import ClockTick, Sweep

pytestmark = pytest.mark.django_db


def tick(name: str, *, ago: float) -> None:
    ClockTick.objects.create(name=name, period_seconds=2, ticked_at=timezone.now() - timedelta(seconds=ago))


def sweep(*, ago: float | None) -> None:
    region = Region.objects.create(provider=Provider.objects.create(name="mock"), name="eu")
    now = timezone.now()
    Sweep.objects.create(
        zone=Zone.objects.create(region=region, name="eu-1"),
        swept_at=None if ago is None else now - timedelta(seconds=ago),
        last_error="unavailable: no route",
        next_attempt_at=now,
    )


def test_it_is_alive_without_a_database(client: Client) -> None:
    with connection.execute_wrapper(_away):
        assert client.get("/healthz").json() == {"status": "ok"}


def test_it_is_ready_while_the_clocks_tick(client: Client) -> None:
    tick("CLOCK:WAKE", ago=3)
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json()["status"] == "ok"
    assert response.json()["clocks"][0]["healthy"] is True


@pytest.mark.parametrize("ago", [7, 3600])
def test_three_missed_ticks_are_told(client: Client, ago: float) -> None:
    tick("CLOCK:WAKE", ago=1)
    tick("CLOCK:INDEX", ago=ago)
    response = client.get("/readyz")
    assert response.status_code == 200  # the API can serve all the same
    assert response.json()["status"] == "degraded"
    assert {clock["name"]: clock["healthy"] for clock in response.json()["clocks"]} == {
        "CLOCK:WAKE": True,
        "CLOCK:INDEX": False,
    }


@pytest.mark.parametrize(("ago", "status"), [(120, "ok"), (200, "degraded")])
def test_a_place_that_nobody_has_swept_for_three_periods_is_told(client: Client, ago: float, status: str) -> None:
    tick("CLOCK:WAKE", ago=1)
    sweep(ago=ago)
    response = client.get("/readyz").json()
    assert response["status"] == status
    assert response["sweeps"]["healthy"] is (status == "ok")


def test_a_place_that_was_never_swept_counts_from_when_it_became_known(client: Client) -> None:
    tick("CLOCK:WAKE", ago=1)
    sweep(ago=None)
    assert client.get("/readyz").json()["status"] == "ok"
    Sweep.objects.update(known_since=timezone.now() - timedelta(hours=1))
    assert client.get("/readyz").json()["status"] == "degraded"


def test_an_orchestrator_that_never_ran_is_told(client: Client) -> None:
    assert client.get("/readyz").json()["status"] == "degraded"


def test_it_is_not_ready_without_a_database(client: Client) -> None:
    with connection.execute_wrapper(_away):
        response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "database": "unreachable"}


def _away(*_: Any) -> None:
    raise OperationalError("connection refused")
