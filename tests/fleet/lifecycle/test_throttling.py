"""Too many calls: nothing failed, nobody comes back at the same moment, and what costs money is not forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleet.lifecycle.advance import take_step
from fleet.models import Instance
from fleet.providers.base import Throttled, Unavailable
from fleet.providers.metered import Bucket, Metered, Rate
from fleet.states import Status
from tests.fleet.stage import Stage


def wait_of(stage: Stage, instance: Instance) -> timedelta:
    instance.refresh_from_db()
    assert instance.next_attempt_at is not None
    return instance.next_attempt_at - stage.clock()


def test_a_throttled_step_is_no_failure_and_comes_back_when_it_was_told_to(stage: Stage) -> None:
    stage.cloud.fail_next("ensure_server", Throttled("slow down", retry_after=timedelta(seconds=7)))

    instance = stage.step(stage.deploy())

    assert instance.failures == 0
    assert "slow down" in instance.last_error
    assert wait_of(stage, instance) == timedelta(seconds=7)


def test_a_create_that_was_throttled_was_not_asked_for(stage: Stage) -> None:
    stage.cloud.listing_lag = timedelta(seconds=120)  # else it would be waited for
    bucket = Bucket(Rate(per_second=1, burst=4), clock=lambda: stage.clock().timestamp())
    bucket.tokens = 1  # which is left for what is more urgent than a create
    driver = Metered(stage.cloud, bucket)
    world = replace(stage.world, provider=lambda name, account: driver)
    instance = stage.deploy()

    take_step(instance.pk, world)
    assert stage.cloud.specs == []
    assert instance.attempts.get().asked_at is None

    stage.clock.forward(seconds=10)
    take_step(instance.pk, world)
    assert stage.cloud.created == ["srv-1"]


@pytest.mark.parametrize(
    ("error", "soonest", "latest"),
    [
        (Unavailable("no route"), 1, 2),
        (Throttled("429"), 10, 15),
        (Throttled("429", retry_after=timedelta(seconds=4)), 4, 6),
    ],
)
def test_those_that_are_refused_together_don_t_come_back_together(
    stage: Stage, error: Unavailable | Throttled, soonest: float, latest: float
) -> None:
    waits = []
    for chance in (0.0, 0.5, 0.999):
        stage.cloud.fail_next("ensure_server", error)
        instance = stage.deploy()
        take_step(instance.pk, replace(stage.world, chance=lambda chance=chance: chance))  # type: ignore[misc]
        waits.append(wait_of(stage, instance).total_seconds())

    assert len(set(waits)) == 3
    assert soonest <= min(waits) <= max(waits) <= latest


def test_a_destruction_that_is_throttled_for_too_long_is_an_alarm(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    instance = stage.ready()
    stage.cloud.outage = Throttled("429")
    Instance.objects.filter(pk=instance.pk).update(termination_requested_at=stage.clock(), drain=False)

    stage.step(instance, times=2)
    assert "ALARM" not in caplog.text
    stage.clock.forward(minutes=16)
    stage.step(instance)

    assert instance.status == Status.DRAINING
    assert "ALARM" in caplog.text
