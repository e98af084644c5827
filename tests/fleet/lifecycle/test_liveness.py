from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from django.conf import settings

from fleet import commands
from fleet.lifecycle import index, liveness
from fleet.models import Instance
from fleet.providers.base import ServerState
from fleet.states import Status
from tests.fleet.stage import OPERATOR, Stage


@pytest.fixture
def fleet(stage: Stage) -> list[Instance]:
    """Four that serve, under a router and an index that have been up for an hour."""
    index.rebuild(stage.world)
    fleet = [stage.ready() for _ in range(4)]
    stage.clock.forward(hours=1)
    stage.router_is_up_since(stage.clock() - timedelta(hours=1))
    stage.heartbeat(*fleet)
    liveness.read_heartbeats(stage.world)
    return fleet


def statuses(fleet: list[Instance]) -> list[str]:
    return [Instance.objects.get(pk=instance.pk).status for instance in fleet]


def test_a_worker_that_says_it_is_ready_is_routed(stage: Stage) -> None:
    instance = stage.ready()

    assert stage.redis.smembers("catalog:model:acme/small:instances") == {str(instance.pk)}
    assert instance.last_heartbeat_at == stage.clock()


def test_a_worker_that_is_not_ready_stays_booting_and_its_words_are_kept(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    stage.register(instance)
    index.publish(instance, stage.world)
    stage.heartbeat(instance, ready=False)
    stage.redis.hset(f"instance:{instance.pk}", "detail", "loading weights")

    liveness.read_heartbeats(stage.world)

    instance.refresh_from_db()
    assert (instance.status, instance.worker_detail) == (Status.BOOTING, "loading weights")


def test_an_old_word_makes_nobody_ready(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    stage.register(instance)
    index.publish(instance, stage.world)
    stage.heartbeat(instance)
    stage.clock.forward(seconds=30)

    liveness.read_heartbeats(stage.world)

    instance.refresh_from_db()
    assert instance.status == Status.BOOTING


def test_an_end_that_is_asked_for_while_it_becomes_ready_is_not_forgotten(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    stage.register(instance)
    stage.heartbeat(instance)

    def now() -> datetime:  # asked for after the worker was read, and before it is moved
        if Instance.objects.filter(pk=instance.pk, termination_requested_at=None).exists():
            commands.request_termination(instance.pk, actor=OPERATOR, reason="done", now=stage.clock())
        return stage.clock()

    liveness.read_heartbeats(replace(stage.world, now=now))

    instance.refresh_from_db()
    assert instance.status == Status.READY
    assert instance in Instance.objects.due(stage.clock())
    assert stage.step(instance).status == Status.DRAINING


def test_one_that_is_silent_for_too_long_is_lost(stage: Stage, fleet: list[Instance]) -> None:
    stage.clock.forward(seconds=61)
    stage.heartbeat(*fleet[1:])

    liveness.read_heartbeats(stage.world)

    assert statuses(fleet) == [Status.FAILED, Status.READY, Status.READY, Status.READY]
    assert "no heartbeat since 13:00:00" in fleet[0].transitions.latest("id").reason


def test_a_dead_machine_is_given_up_as_soon_as_it_is_silent(stage: Stage, fleet: list[Instance]) -> None:
    stage.cloud.set_state(str(fleet[0].provider_instance_id), ServerState.STOPPED)
    stage.clock.forward(seconds=16)
    stage.heartbeat(*fleet[1:])

    liveness.read_heartbeats(stage.world)
    stage.step(fleet[0])

    assert fleet[0].status == Status.FAILED
    assert "stopped" in fleet[0].status_reason


def test_one_that_is_silent_while_its_machine_runs_is_kept_until_it_is_lost(
    stage: Stage, fleet: list[Instance]
) -> None:
    stage.clock.forward(seconds=16)
    stage.heartbeat(*fleet[1:])

    liveness.read_heartbeats(stage.world)
    stage.step(fleet[0])

    assert fleet[0].status == Status.READY


def test_a_wave_of_silence_freezes_the_reaping_and_alarms(
    stage: Stage, fleet: list[Instance], caplog: pytest.LogCaptureFixture
) -> None:
    stage.clock.forward(seconds=61)
    stage.heartbeat(fleet[3])

    liveness.read_heartbeats(stage.world)

    assert statuses(fleet) == [Status.READY] * 4
    assert "ALARM 3 of 4" in caplog.text


def test_an_engine_that_does_not_come_back_is_given_up(stage: Stage, fleet: list[Instance]) -> None:
    def hear(*, seconds: int) -> list[str]:
        for _ in range(seconds // 10):
            stage.clock.forward(seconds=10)
            stage.heartbeat(fleet[0], ready=False)
            stage.heartbeat(*fleet[1:])
            liveness.read_heartbeats(stage.world)
        return statuses(fleet)

    assert hear(seconds=10 + settings.UNREADY_DEADLINE) == [Status.READY] * 4
    assert hear(seconds=10) == [Status.FAILED, Status.READY, Status.READY, Status.READY]


def test_a_minute_of_silence_is_no_minute_of_an_unhealthy_engine(stage: Stage, fleet: list[Instance]) -> None:
    stage.clock.forward(seconds=5)
    stage.heartbeat(fleet[0], ready=False)
    liveness.read_heartbeats(stage.world)

    # For twenty minutes no router hears anybody.
    stage.redis.delete("router:r1")
    stage.clock.forward(minutes=20)
    liveness.read_heartbeats(stage.world)
    assert statuses(fleet) == [Status.READY] * 4

    stage.heartbeat(fleet[0], ready=False)
    liveness.read_heartbeats(stage.world)
    assert statuses(fleet) == [Status.READY] * 4


def test_an_engine_that_comes_back_is_kept(stage: Stage, fleet: list[Instance]) -> None:
    for ready in (False, True) * 10:
        stage.heartbeat(fleet[0], ready=ready)
        stage.heartbeat(*fleet[1:])
        liveness.read_heartbeats(stage.world)
        stage.clock.forward(minutes=1)

    assert statuses(fleet) == [Status.READY] * 4


@pytest.mark.parametrize("trouble", ["no router", "a new router", "flushed", "rebuilt a moment ago"])
def test_silence_proves_nothing_while_nobody_could_have_heard(
    stage: Stage, fleet: list[Instance], trouble: str
) -> None:
    stage.clock.forward(seconds=61)
    match trouble:
        case "no router":
            stage.redis.delete("router:r1")
        case "a new router":
            stage.router_is_up_since(stage.clock() - timedelta(seconds=5))
        case "flushed":
            stage.redis.delete("discovery:epoch")
        case _:
            stage.redis.flushdb()
            stage.router_is_up_since(stage.clock() - timedelta(hours=1))
            assert index.mend(stage.world)
            stage.heartbeat(*fleet[1:])

    liveness.read_heartbeats(stage.world)

    assert statuses(fleet) == [Status.READY] * 4


def test_a_flushed_index_is_built_again_with_those_that_were_heard_lately(stage: Stage, fleet: list[Instance]) -> None:
    stage.redis.flushdb()

    assert index.mend(stage.world)
    assert not index.mend(stage.world)

    assert stage.redis.scard("catalog:model:acme/small:instances") == 4
    pulses = stage.world.publisher.pulses([str(instance.pk) for instance in fleet])
    assert all(pulse.ready and pulse.last_heartbeat == stage.clock().timestamp() for pulse in pulses.values())


def test_the_number_of_queries_does_not_grow_with_the_fleet(
    stage: Stage, fleet: list[Instance], django_assert_max_num_queries: object
) -> None:
    stage.clock.forward(seconds=1)
    stage.heartbeat(*fleet)

    with django_assert_max_num_queries(4):  # type: ignore[operator]
        liveness.read_heartbeats(stage.world)
