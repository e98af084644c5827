"""A worker that is paused past its lease: another goes on in its place, and nothing of the slow one's counts."""

from __future__ import annotations

import pytest
from django.conf import settings

from fleet.lifecycle import launch
from fleet.lifecycle.advance import take_step
from fleet.models import Instance, LeaseLost
from fleet.providers.base import Unavailable
from fleet.states import Status
from tests.fleet.stage import Stage


def lease(stage: Stage, instance: Instance) -> Instance:
    held = Instance.lease(instance.pk, now=stage.clock(), seconds=settings.LEASE_SECONDS)
    assert held is not None
    return held


def pause_past_the_lease(stage: Stage) -> None:
    stage.clock.forward(seconds=settings.LEASE_SECONDS + 1)


def test_one_instance_is_worked_on_by_one_worker(stage: Stage) -> None:
    instance = stage.deploy()
    lease(stage, instance)

    assert Instance.lease(instance.pk, now=stage.clock(), seconds=90) is None
    assert stage.step(instance).status == Status.PROVISIONING
    assert stage.cloud.created == []


def test_the_slow_one_does_not_ask_the_provider(stage: Stage) -> None:
    instance = stage.deploy()
    slow = lease(stage, instance)
    pause_past_the_lease(stage)
    stage.cloud.fail_next("ensure_server", Unavailable("no route"))
    stage.step(instance)

    with pytest.raises(LeaseLost):
        launch.step(slow, stage.world)

    assert stage.cloud.created == []


def test_the_slow_one_moves_nothing(stage: Stage) -> None:
    instance = stage.deploy()

    def pause_before_the_move(call: str) -> None:
        if call == "get":
            stage.cloud.on_call = lambda call: None
            pause_past_the_lease(stage)
            lease(stage, instance)

    stage.cloud.on_call = pause_before_the_move
    take_step(instance.pk, stage.world)

    instance.refresh_from_db()
    assert instance.status == Status.PROVISIONING
    assert instance.lock_token is not None


def test_the_slow_ones_ids_are_found_again_by_their_tag(stage: Stage) -> None:
    instance = stage.deploy()
    ensure_server = stage.cloud.ensure_server

    def paused_after_the_create(spec: object) -> object:
        view = ensure_server(spec)  # type: ignore[arg-type]
        pause_past_the_lease(stage)
        lease(stage, instance)
        return view

    stage.cloud.ensure_server = paused_after_the_create  # type: ignore[method-assign, assignment]
    take_step(instance.pk, stage.world)
    stage.cloud.ensure_server = ensure_server  # type: ignore[method-assign]
    instance.refresh_from_db()
    assert instance.provider_instance_id is None

    pause_past_the_lease(stage)
    stage.step(instance)

    assert instance.status == Status.BOOTING
    assert stage.cloud.created == ["srv-1"]
