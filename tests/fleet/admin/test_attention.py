"""The admin's front page says what is wrong first."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from fleet.states import Status
from tests.fleet.admin import rows
from tests.fleet.admin.test_lists import page

pytestmark = pytest.mark.django_db

HOME = reverse("admin:index")
LEAKS, INSTANCES, SWEEPS, CLOCKS = (
    reverse(f"admin:fleet_{name}_changelist") for name in ("leak", "instance", "sweep", "clocktick")
)


def test_a_healthy_fleet_needs_nobody(viewer: Client) -> None:
    rows.instance_in(Status.READY)
    rows.leak(ended_at=timezone.now())
    rows.sweep(seconds_ago=10)
    rows.tick("CLOCK:WAKE", period=2, seconds_ago=1)

    assert "Nothing needs you" in page(viewer, HOME)


def test_what_leaks_is_counted_with_its_price(viewer: Client) -> None:
    rows.leak()
    rows.leak()

    assert f'<a href="{LEAKS}">2 things leak money, 6.00 EUR per hour</a>' in page(viewer, HOME)


def test_instances_that_failed_are_led_to(viewer: Client) -> None:
    rows.instance_in(Status.FAILED)

    assert f'<a href="{INSTANCES}?status__exact=FAILED">1 instance has failed' in page(viewer, HOME)


def test_a_place_that_is_not_listed_wholly_stands_out_though_it_is_listed(viewer: Client) -> None:
    place = rows.sweep(seconds_ago=500)
    place.swept_at = timezone.now()
    place.save()

    assert f'<a href="{SWEEPS}">1 place was not wholly listed' in page(viewer, HOME)


def test_a_late_clock_asks_for_the_orchestrator(viewer: Client) -> None:
    rows.tick("CLOCK:WAKE", period=2, seconds_ago=60)

    assert f'<a href="{CLOCKS}">1 clock is late: is the orchestrator up?</a>' in page(viewer, HOME)
