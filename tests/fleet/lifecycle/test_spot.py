"""A provider takes a spot machine back: with notice and without."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from catalog.models import InstanceAvailability
from fleet import commands
from fleet.lifecycle import liveness, replacement
from fleet.models import Attempt, Deployment, DeploymentRequest, Instance
from fleet.providers.base import ServerState
from fleet.states import Status
from tests.fleet.stage import OPERATOR, Stage


def rent_spot(stage: Stage) -> Instance:
    """An instance that serves, on a spot machine."""
    instance = stage.ready()
    request = instance.deployment.request
    for row in request.plan["ranked"]:
        row["offer"]["spot"] = True
    request.save()
    Attempt.objects.filter(instance=instance).update(spot=True)
    return instance


@pytest.fixture
def spot(stage: Stage) -> Instance:
    return rent_spot(stage)


def notice(stage: Stage, instance: Instance, at: str | None = None, *, load: int = 1) -> str:
    """A heartbeat with the provider's notice in it, and a look at it."""
    said = at or f"{stage.clock() + timedelta(minutes=2):%Y-%m-%dT%H:%M:%SZ}"
    stage.heartbeat(instance, load=load)
    stage.redis.hset(f"instance:{instance.pk}", "interruption", said)
    liveness.read_heartbeats(stage.world)
    instance.refresh_from_db()
    return said


def stand_ins(instance: Instance) -> list[Instance]:
    return [deployment.instance for deployment in Deployment.objects.filter(replaces=instance)]


# --- with notice ----------------------------------------------------------------------------------------------------


def test_a_notice_drains_and_starts_a_replacement(stage: Stage, spot: Instance) -> None:
    notice(stage, spot)
    stage.step(spot)

    assert spot.status == Status.DRAINING
    assert spot.interrupted_at == stage.clock() + timedelta(minutes=2)
    assert spot.status_reason == "the provider takes its spot machine back at 12:02:00 UTC"
    assert not stage.redis.sismember("catalog:model:acme/small:instances", str(spot.pk))
    (stand_in,) = stand_ins(spot)
    assert stand_in in Instance.objects.due(stage.clock())
    assert stand_in.deployment.request == spot.deployment.request
    assert str(spot) in stand_in.transitions.get().reason


def test_the_replacement_walks_the_plan_and_passes_over_what_was_taken_back(stage: Stage, spot: Instance) -> None:
    taken = spot.attempts.get()
    notice(stage, spot)
    (stand_in,) = stand_ins(spot)

    stage.step(stand_in)

    attempt = stand_in.attempts.get()
    assert stand_in.status == Status.BOOTING
    assert attempt.spot
    assert '\\"spot\\": \\"mock\\"' in stage.cloud.user_data[attempt.server_id]
    assert (attempt.instance_type, attempt.zone) != (taken.instance_type, taken.zone)
    sold_out = InstanceAvailability.objects.get(instance_type=taken.instance_type, zone=taken.zone)
    assert sold_out.last_stockout_at == stage.clock()


def test_the_same_notice_again_and_late_replaces_nothing_more(stage: Stage, spot: Instance) -> None:
    said = notice(stage, spot)
    for _ in range(3):
        stage.step(spot)
        stage.clock.forward(seconds=1)
        notice(stage, spot, said)
    stage.clock.forward(minutes=3)
    notice(stage, spot, said)

    assert len(stand_ins(spot)) == 1
    assert Instance.objects.count() == 2
    assert f"{spot.interrupted_at:%Y-%m-%dT%H:%M:%SZ}" == said


@pytest.mark.django_db(transaction=True)
def test_two_looks_at_the_same_notice_start_one_replacement(stage: Stage) -> None:
    spot = rent_spot(stage)
    stage.heartbeat(spot)
    stage.redis.hset(f"instance:{spot.pk}", "interruption", "2026-11-23T12:02:00Z")

    in_parallel(lambda: liveness.read_heartbeats(stage.world), times=4)

    assert len(stand_ins(spot)) == 1
    assert Instance.objects.count() == 2


def test_a_drain_ends_when_the_machine_is_taken_back_though_requests_run(stage: Stage, spot: Instance) -> None:
    notice(stage, spot, f"{stage.clock() + timedelta(seconds=30):%Y-%m-%dT%H:%M:%SZ}")
    stage.step(spot)

    stage.clock.forward(seconds=29)
    stage.heartbeat(spot, load=1)
    assert stage.step(spot).status == Status.DRAINING
    assert len(stage.cloud.servers) == 1

    stage.clock.forward(seconds=1)
    stage.heartbeat(spot, load=1)
    assert stage.step(spot, times=3).status == Status.TERMINATED


def test_an_idle_machine_goes_at_once(stage: Stage, spot: Instance) -> None:
    notice(stage, spot, load=0)
    stage.step(spot)
    stage.clock.forward(seconds=3)
    stage.heartbeat(spot, load=0)

    assert stage.step(spot, times=3).status == Status.TERMINATED


def test_an_end_that_was_asked_for_before_is_not_replaced_but_ends_in_time(stage: Stage, spot: Instance) -> None:
    commands.request_termination(spot.pk, actor=OPERATOR, reason="done", now=stage.clock())
    stage.step(spot)
    stage.clock.forward(seconds=5)
    notice(stage, spot, f"{stage.clock() + timedelta(seconds=10):%Y-%m-%dT%H:%M:%SZ}")
    stage.clock.forward(seconds=10)
    stage.heartbeat(spot, load=1)

    assert stage.step(spot, times=3).status == Status.TERMINATED
    assert stand_ins(spot) == []
    assert spot.termination_reason == "done"


def test_one_that_is_still_booting_is_replaced_too(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    Attempt.objects.filter(instance=instance).update(spot=True)
    stage.register(instance)
    notice(stage, instance)

    assert stage.step(instance).status == Status.DRAINING
    assert len(stand_ins(instance)) == 1


def test_a_machine_that_is_no_spot_machine_ends_nothing_by_its_own_word(stage: Stage) -> None:
    instance = stage.ready()

    notice(stage, instance)

    assert (instance.status, instance.interrupted_at, instance.termination_requested_at) == (Status.READY, None, None)
    assert Instance.objects.count() == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2026-11-23T12:01:00Z", 60),
        ("2026-11-23T12:01:00", 60),
        ("2026-11-23T13:01:00+01:00", 60),
        ("soon", 120),
        ("9999-12-31T23:59:59-23:59", 120),
        ("0001-01-01T00:00:00+23:59", 0),
    ],
)
def test_whatever_the_notice_says_the_drain_ends_within_two_minutes(
    stage: Stage, spot: Instance, said: str, seconds: int
) -> None:
    notice(stage, spot, said)

    assert spot.interrupted_at == stage.clock() + timedelta(seconds=seconds)
    assert len(stand_ins(spot)) == 1


# --- without notice -------------------------------------------------------------------------------------------------


def fall_silent(stage: Stage, instance: Instance) -> Instance:
    stage.clock.forward(seconds=16)
    liveness.read_heartbeats(stage.world)
    return stage.step(instance)


@pytest.mark.parametrize("word", [ServerState.STOPPING, ServerState.STOPPED, None])
def test_one_that_is_gone_by_its_providers_word_is_replaced(
    stage: Stage, spot: Instance, word: ServerState | None
) -> None:
    if word is None:
        stage.cloud.servers.clear()
    else:
        stage.cloud.set_state(str(spot.provider_instance_id), word)

    fall_silent(stage, spot)

    assert spot.status == Status.FAILED
    (stand_in,) = stand_ins(spot)
    assert stage.step(stand_in).status == Status.BOOTING
    stage.step(spot, times=3)
    assert spot.status == Status.TERMINATED
    assert len(stand_ins(spot)) == 1


def test_one_that_is_gone_after_its_notice_has_one_replacement(stage: Stage, spot: Instance) -> None:
    notice(stage, spot)
    stage.cloud.servers.clear()
    stage.clock.forward(seconds=130)

    assert stage.step(spot, times=4).status == Status.TERMINATED
    assert len(stand_ins(spot)) == 1


def test_one_whose_end_was_asked_for_is_not_replaced(stage: Stage, spot: Instance) -> None:
    held = Instance.lease(spot.pk, now=stage.clock(), seconds=90)  # read before the end was asked for
    assert held is not None
    commands.request_termination(spot.pk, actor=OPERATOR, reason="done", now=stage.clock())

    assert replacement.start(held, now=stage.clock()) is None
    assert stand_ins(spot) == []


def test_a_machine_of_the_usual_kind_is_not_replaced(stage: Stage) -> None:
    instance = stage.ready()
    stage.cloud.servers.clear()

    assert fall_silent(stage, instance).status == Status.FAILED
    assert stand_ins(instance) == []


def test_one_that_dies_while_it_boots_is_not_replaced(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    Attempt.objects.filter(instance=instance).update(spot=True)
    stage.cloud.servers.clear()

    assert stage.step(instance).status == Status.FAILED
    assert stand_ins(instance) == []


def test_a_replacement_that_finds_no_offer_fails_and_is_not_replaced(stage: Stage, spot: Instance) -> None:
    notice(stage, spot)
    (stand_in,) = stand_ins(spot)
    DeploymentRequest.objects.update(plan={"ranked": [], "rejected": []})

    assert stage.step(stand_in).status == Status.FAILED
    assert stage.step(stand_in).status == Status.TERMINATED
    assert stand_ins(stand_in) == []


def test_a_replacement_that_is_taken_back_is_replaced_in_its_turn(stage: Stage, spot: Instance) -> None:
    notice(stage, spot)
    (second,) = stand_ins(spot)
    stage.step(second)
    stage.register(second)
    stage.heartbeat(second)
    liveness.read_heartbeats(stage.world)

    notice(stage, second)

    assert len(stand_ins(second)) == 1
    assert len(stand_ins(spot)) == 1


def in_parallel(look: Callable[[], object], *, times: int) -> None:
    start, raised = threading.Barrier(times), []

    def run() -> None:
        try:
            start.wait(10)
            look()
        except BaseException as error:
            raised.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert raised == []
