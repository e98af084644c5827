"""What is claimed in so many words: how soon, for how long, and what it costs."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from fleet.models import Instance, Rental
from fleet.providers.base import AuthError, ProviderError, Unavailable
from fleet.states import Status
from tests.simulation.clock import START
from tests.simulation.cloud import DISK_PRICE, PRICE
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.usefixtures("theatre")

HOUR, WEEK = 3600, 7 * 24 * 3600


@pytest.mark.parametrize("appears_at", range(100, 160, 7))
def test_a_machine_that_no_row_knows_is_gone_within_two_minutes(appears_at: int, settings: Any) -> None:
    settings.RECONCILE_EVERY = 60
    schedule = Schedule(appears_at, patient=True)
    schedule.at(appears_at, schedule.somebody_rents_in_our_name)

    schedule.run(faults_end=appears_at + 130)

    (machine,) = schedule.cloud.machines.values()
    assert machine.gone_at is not None
    assert machine.gone_at - machine.created_at <= timedelta(seconds=120)


def test_a_delete_that_gets_nowhere_is_still_repeated_after_a_week_and_alarms_from_minute_15(
    caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    settings.RECONCILE_EVERY = HOUR  # a week of sweeps would take long, and is not what this is about
    schedule = Schedule(1)
    schedule.at(0, schedule.deploy)
    schedule.at(100, schedule.terminate_all)
    schedule.cloud.stuck_until = START + timedelta(seconds=WEEK)

    schedule.play(100 + 14 * 60)
    assert "ALARM" not in caplog.text
    schedule.play_on(100 + 22 * 60)
    assert "ALARM" in caplog.text
    schedule.play_on(WEEK - 1)

    instance = Instance.objects.get()
    assert instance.status == Status.DRAINING
    assert instance.next_attempt_at is not None
    assert instance.next_attempt_at - schedule.clock() < timedelta(minutes=6)
    schedule.play_on(WEEK + 600)
    instance.refresh_from_db()
    assert instance.status == Status.TERMINATED
    assert schedule.cloud.alive == []


@pytest.mark.parametrize("error", [Unavailable("500"), AuthError("401")], ids=["500", "401"])
@pytest.mark.parametrize("begins_at", [0, 1, 3, 60, 110])
def test_an_hour_in_which_the_cloud_answers_nothing_costs_nothing_and_passes_by_itself(
    error: ProviderError, begins_at: int
) -> None:
    schedule = Schedule(2)
    schedule.at(0, schedule.deploy)  # serves when it is done
    schedule.at(50, schedule.deploy)
    schedule.at(begins_at, lambda: schedule.cloud_refuses(error, lasts=timedelta(hours=1)))
    schedule.play(100)
    made = len(schedule.cloud.machines)
    schedule.at(105, schedule.terminate_all)

    schedule.play_on(begins_at + HOUR - 1)
    # Those that were there are there, and the rows say so.
    assert len(schedule.cloud.alive) == made or begins_at == 110
    assert Instance.objects.filter(status=Status.TERMINATED).count() <= 2 - len(schedule.cloud.alive)
    schedule.play_on(begins_at + HOUR + 600)

    assert schedule.invariants.unfinished() == []
    assert len(schedule.cloud.machines) <= 2


def test_the_ledger_is_the_clouds_bill(settings: Any) -> None:
    settings.RECONCILE_EVERY = 60
    schedule = Schedule(3, patient=True)
    schedule.at(0, lambda: schedule.deploy(replicas=3))
    schedule.at(200, schedule.somebody_rents_in_our_name)
    schedule.at(2 * HOUR, schedule.terminate_all)

    schedule.run(faults_end=2 * HOUR + 300)

    machines = schedule.cloud.machines
    assert len(machines) == 4
    hours = Decimal(0)
    for rental in Rental.objects.filter(kind="server"):
        machine = machines[rental.resource_id]
        # From its creation to the moment at which the provider was asked, and said that it is gone.
        assert (rental.since, rental.until) == (machine.created_at, machine.said_gone_at)
        assert machine.gone_at is not None
        assert rental.until is not None
        assert rental.until - machine.gone_at < timedelta(seconds=10)  # between two looks
        hours += Decimal((rental.until - rental.since).total_seconds()) / HOUR
    servers, disks = (
        sum(rental.cost(timezone.now()) for rental in Rental.objects.filter(kind=kind)) for kind in ("server", "volume")
    )
    assert servers == pytest.approx(hours * PRICE)
    assert disks == pytest.approx(hours * DISK_PRICE, rel=Decimal("0.001"))
