"""Rows whose machine the listings lack: asked about one by one, and lost only by the provider's typed word."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.models import Attempt, Instance
from fleet.providers.base import AuthError, Unavailable
from fleet.states import Status
from tests.fleet.lifecycle.reconciling import place, sweep_all
from tests.fleet.lifecycle.test_termination import end
from tests.fleet.stage import Stage


def missed(instance: Instance) -> int:
    return Attempt.objects.get(instance=instance).missed_listings


def machine(instance: Instance) -> str:
    return Attempt.objects.get(instance=instance).server_id


def is_woken(instance: Instance) -> bool:
    instance.refresh_from_db()
    return instance.next_attempt_at is not None


def test_a_machine_that_two_whole_listings_lack_is_asked_for_and_its_instance_lost(stage: Stage) -> None:
    instance = stage.ready()
    del stage.cloud.servers[machine(instance)]

    sweep_all(stage)
    assert missed(instance) == 1
    assert not is_woken(instance)

    stage.clock.forward(seconds=60)
    sweep_all(stage)
    assert missed(instance) == 2
    assert is_woken(instance)

    stage.step(instance)
    assert instance.status == Status.FAILED
    assert "no longer knows" in instance.status_reason
    stage.step(instance, times=2)
    assert instance.status == Status.TERMINATED


def test_a_listing_that_is_wrong_costs_nothing(stage: Stage) -> None:
    instance = stage.ready()
    stage.cloud.unlisted = {machine(instance)}

    for _ in range(5):
        stage.clock.forward(seconds=60)
        stage.heartbeat(instance)
        sweep_all(stage)
        stage.step(instance)

    assert instance.status == Status.READY
    assert missed(instance) == 5


def test_being_seen_again_starts_the_count_anew(stage: Stage) -> None:
    instance = stage.ready()
    stage.cloud.unlisted = {machine(instance)}
    sweep_all(stage)
    stage.cloud.unlisted = set()

    sweep_all(stage)

    assert missed(instance) == 0


def test_a_listing_that_ended_half_way_proves_nothing_missing(stage: Stage) -> None:
    instance = stage.ready()
    stage.cloud.half_listings = True

    sweep_all(stage)
    sweep_all(stage)

    assert missed(instance) == 0
    assert place().complete_at is None
    assert place().swept_at == stage.clock()
    assert "half-way" in place().last_error


@pytest.mark.parametrize("error", [Unavailable("no route"), AuthError("401")])
def test_a_listing_that_failed_proves_nothing_missing(stage: Stage, error: Exception) -> None:
    instance = stage.ready()
    del stage.cloud.servers[machine(instance)]
    stage.cloud.outage = error  # type: ignore[assignment]

    sweep_all(stage)
    sweep_all(stage)

    assert missed(instance) == 0
    assert not is_woken(instance)


def test_wrong_credentials_alarm_at_once(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.cloud.outage = AuthError("the secret key was revoked")

    sweep_all(stage)

    assert "ALARM mock eu-1" in caplog.text


def test_a_place_that_is_not_seen_for_a_quarter_of_an_hour_alarms(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.cloud.outage = Unavailable("no route")
    sweep_all(stage)
    assert "ALARM" not in caplog.text

    stage.clock.forward(minutes=16)
    sweep_all(stage)
    assert "ALARM mock eu-1" in caplog.text


def test_a_new_machine_may_be_missing_for_as_long_as_listings_lag(stage: Stage) -> None:
    stage.cloud.listing_lag = timedelta(seconds=90)
    instance = stage.step(stage.deploy())
    stage.clock.forward(seconds=60)

    sweep_all(stage)
    assert missed(instance) == 0

    stage.cloud.unlisted = {machine(instance)}
    stage.clock.forward(seconds=60)
    sweep_all(stage)
    assert missed(instance) == 1


def test_most_of_a_places_machines_missing_at_once_is_our_own_fault_first(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = [stage.ready() for _ in range(4)]
    stage.cloud.unlisted = {machine(instance) for instance in fleet[:3]}

    sweep_all(stage)
    sweep_all(stage)

    assert [missed(instance) for instance in fleet] == [0, 0, 0, 0]
    assert not any(is_woken(instance) for instance in fleet)
    assert "ALARM mock eu-1: 3 of 4 known machines are missing" in caplog.text
    assert "3 of 4" in place().last_error


def test_a_few_of_many_are_believed_to_be_missing(stage: Stage) -> None:
    fleet = [stage.ready() for _ in range(4)]
    stage.cloud.unlisted = {machine(instance) for instance in fleet[:2]}

    sweep_all(stage)

    assert [missed(instance) for instance in fleet] == [1, 1, 0, 0]


def test_machines_that_are_being_destroyed_are_rightly_missing(stage: Stage) -> None:
    fleet = [stage.ready() for _ in range(4)]
    for instance in fleet[:3]:
        end(stage, instance, drain=False)
        stage.step(instance)
        del stage.cloud.servers[machine(instance)]

    sweep_all(stage)

    assert [missed(instance) for instance in fleet] == [0, 0, 0, 0]
    assert place().last_error == ""
