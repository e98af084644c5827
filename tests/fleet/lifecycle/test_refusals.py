from __future__ import annotations

import uuid

import pytest

from fleet.lifecycle import liveness, refusals
from fleet.models import HeartbeatRefusal, Instance
from fleet.states import Status
from routing.discovery import keys
from routing.discovery.records import Refusal
from tests.fleet.stage import Stage


@pytest.fixture
def instance(stage: Stage) -> Instance:
    return stage.ready()


def refuse(
    stage: Stage, instance_id: object, *, reason: str = "address", address: str = "203.0.113.9", times: int = 1
) -> None:
    """What a router leaves behind (see routing.discovery.scripts)."""
    at = stage.clock().timestamp()
    refusal = Refusal(str(instance_id), reason, address, first_at=at, last_at=at, times=times)
    stage.redis.hset(keys.REFUSALS, refusal.field, refusal.value)


def rows(instance: Instance) -> list[tuple[str, str, int]]:
    return sorted(instance.heartbeat_refusals.values_list("reason", "address", "times"))


def test_a_refusal_is_written_down_with_an_alarm(
    stage: Stage, instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(stage, instance.pk, times=3)

    refusals.write_down(stage.world)

    assert rows(instance) == [("address", "203.0.113.9", 3)]
    assert instance.heartbeat_refusals.get().last_at == stage.clock()
    assert f"ALARM {instance}: refused a heartbeat with its token, from an address that is not its own" in caplog.text
    assert stage.world.publisher.take_refusals() == []


def test_the_same_again_is_counted_and_alarms_no_more(
    stage: Stage, instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    for times in (1, 4):
        refuse(stage, instance.pk, times=times)
        refusals.write_down(stage.world)
        stage.clock.forward(seconds=2)
    refuse(stage, instance.pk, reason="token")
    refusals.write_down(stage.world)

    assert rows(instance) == [("address", "203.0.113.9", 5), ("token", "203.0.113.9", 1)]
    assert caplog.text.count("ALARM") == 2


def test_one_that_was_written_down_but_not_forgotten_is_not_counted_twice(stage: Stage, instance: Instance) -> None:
    refuse(stage, instance.pk, times=3)
    refusals.write_down(stage.world)
    refuse(stage, instance.pk, times=3)

    refusals.write_down(stage.world)

    assert rows(instance) == [("address", "203.0.113.9", 3)]


@pytest.mark.parametrize("stranger", [uuid.UUID(int=1), "nonsense"])
def test_an_instance_that_nobody_knows_is_dropped(stage: Stage, instance: Instance, stranger: object) -> None:
    refuse(stage, stranger)
    refuse(stage, instance.pk)

    refusals.write_down(stage.world)

    assert HeartbeatRefusal.objects.count() == 1
    assert stage.world.publisher.take_refusals() == []


def test_many_addresses_fill_neither_the_table_nor_the_log(
    stage: Stage, instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(120):
        refuse(stage, instance.pk, address=f"203.0.113.{number}")

    refusals.write_down(stage.world)

    assert instance.heartbeat_refusals.count() == 100
    assert caplog.text.count("ALARM") == 101
    assert "no further one is written down" in caplog.text


def test_a_refusal_is_no_sign_of_life(stage: Stage, instance: Instance) -> None:
    heard = instance.last_heartbeat_at
    stage.clock.forward(seconds=16)
    refuse(stage, instance.pk)

    liveness.read_heartbeats(stage.world)
    refusals.write_down(stage.world)

    instance.refresh_from_db()
    assert (instance.last_heartbeat_at, instance.status) == (heard, Status.READY)
