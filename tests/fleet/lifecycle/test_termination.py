from __future__ import annotations

from datetime import timedelta

import pytest

from fleet import commands
from fleet.models import Instance, Outcome
from fleet.providers.base import AmbiguousOutcome, AuthError, ProviderError, Throttled, Unavailable
from fleet.states import Status
from tests.fleet.stage import OPERATOR, Stage


def end(stage: Stage, instance: Instance, *, drain: bool = True) -> None:
    commands.request_termination(instance.pk, actor=OPERATOR, reason="done", now=stage.clock(), drain=drain)


def test_it_stops_routing_and_lets_what_runs_end_before_it_destroys(stage: Stage) -> None:
    instance = stage.ready()
    stage.heartbeat(instance, load=1)
    end(stage, instance)

    stage.step(instance, times=3)
    assert instance.status == Status.DRAINING
    assert stage.redis.hget(f"instance:{instance.pk}", "status") == Status.DRAINING
    assert not stage.redis.sismember("catalog:model:acme/small:instances", str(instance.pk))
    assert len(stage.cloud.servers) == 1

    stage.clock.forward(seconds=5)
    stage.heartbeat(instance, load=0)
    stage.step(instance, times=3)

    assert instance.status == Status.TERMINATED
    assert stage.cloud.servers == {}
    assert instance.attempts.get().outcome == Outcome.DESTROYED
    assert not stage.redis.exists(f"instance:{instance.pk}")


def test_a_load_heard_before_the_drain_began_does_not_count(stage: Stage) -> None:
    instance = stage.ready()
    end(stage, instance)

    stage.step(instance, times=4)

    assert instance.status == Status.DRAINING
    assert len(stage.cloud.servers) == 1


def test_it_ends_a_worker_that_does_not_get_done_in_time(stage: Stage) -> None:
    instance = stage.ready()
    end(stage, instance)
    stage.step(instance)

    stage.clock.forward(seconds=121)
    stage.heartbeat(instance, load=3)
    stage.step(instance, times=3)

    assert instance.status == Status.TERMINATED


def test_without_drain_it_ends_at_once(stage: Stage) -> None:
    instance = stage.ready()
    stage.heartbeat(instance, load=3)
    end(stage, instance, drain=False)

    stage.step(instance, times=3)

    assert instance.status == Status.TERMINATED


def test_asking_again_without_drain_cuts_a_drain_short(stage: Stage) -> None:
    instance = stage.ready()
    stage.heartbeat(instance, load=3)
    end(stage, instance)
    stage.step(instance)

    end(stage, instance, drain=False)
    stage.step(instance, times=2)

    assert instance.status == Status.TERMINATED


def test_asking_for_an_end_twice_is_asking_once(stage: Stage) -> None:
    instance = stage.ready()
    end(stage, instance, drain=False)
    stage.clock.forward(seconds=5)
    end(stage, instance, drain=False)
    stage.step(instance, times=3)
    end(stage, instance)

    assert stage.moves(instance) == [
        Status.PROVISIONING,
        Status.BOOTING,
        Status.READY,
        Status.DRAINING,
        Status.TERMINATED,
    ]


@pytest.mark.parametrize(
    "error", [AmbiguousOutcome("502"), AuthError("401"), Throttled("429"), Unavailable("no route")]
)
def test_no_error_means_gone(stage: Stage, error: ProviderError) -> None:
    instance = stage.ready()
    end(stage, instance, drain=False)
    stage.cloud.fail_next("destroy_step", *[error] * 30)

    for _ in range(30):
        stage.step(instance)
        stage.clock.forward(minutes=2)
    assert instance.status == Status.DRAINING
    assert len(stage.cloud.servers) == 1

    stage.step(instance, times=3)
    assert instance.status == Status.TERMINATED
    assert stage.cloud.servers == {}


def test_a_stuck_delete_is_retried_for_ever_and_alarms(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    instance = stage.ready()
    end(stage, instance, drain=False)
    stage.cloud.stuck_deletes = 1000

    for _ in range(100):
        stage.step(instance)
        stage.clock.forward(hours=2)

    assert instance.status == Status.DRAINING
    assert instance.next_attempt_at is not None
    assert instance.next_attempt_at < stage.clock()
    assert "ALARM" in caplog.text


def test_what_failed_is_destroyed_too(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    stage.clock.forward(minutes=21)

    stage.step(instance)
    assert instance.status == Status.FAILED
    assert "not ready within" in instance.status_reason

    stage.step(instance, times=2)
    assert instance.status == Status.TERMINATED
    assert stage.cloud.servers == {}


def test_an_end_in_the_middle_of_an_unclear_create_waits_until_that_is_settled(stage: Stage) -> None:
    stage.cloud.listing_lag = timedelta(seconds=120)
    stage.cloud.lose_answers = 1
    instance = stage.step(stage.deploy())
    end(stage, instance)

    stage.step(instance, times=3)
    assert instance.status == Status.DRAINING

    stage.clock.forward(seconds=121)
    stage.step(instance, times=3)
    assert instance.status == Status.TERMINATED
    assert stage.cloud.servers == {}


def test_an_intent_that_comes_in_the_middle_of_a_step_is_not_lost(stage: Stage) -> None:
    instance = stage.ready()
    held = Instance.lease(instance.pk, now=stage.clock(), seconds=90)
    assert held is not None
    stage.clock.forward(seconds=1)
    end(stage, instance)

    held.release(due=None)

    instance.refresh_from_db()
    assert instance.next_attempt_at == stage.clock()
