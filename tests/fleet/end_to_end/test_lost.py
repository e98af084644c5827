"""Requests and answers that are lost, and workers that end in the middle: one machine each time, and nothing beside."""

from __future__ import annotations

import pytest
from django.conf import settings as project

from fleet.models import Instance
from fleet.states import Status
from tests.fleet.end_to_end.bills import assert_the_ledger_is_the_bill
from tests.fleet.end_to_end.clouds import Crash
from tests.fleet.end_to_end.stage import WiredStage


def made(stage: WiredStage) -> int:
    """Servers that the cloud ever had."""
    return sum(line.kind == "server" for line in stage.cloud.bill())


def assert_one_machine_from_birth_to_end(
    stage: WiredStage, instance: Instance, *, address_seen_late: bool = False
) -> None:
    stage.serve(instance)
    assert instance.provider_instance_id
    assert stage.billed("server") == [instance.provider_instance_id]
    assert len(stage.billed("volume")) == 1
    assert len(instance.attempts.all()) == 1
    stage.end(instance)
    assert stage.billed() == []
    assert made(stage) == 1
    assert_the_ledger_is_the_bill(stage, but="ip" if address_seen_late else "")


@pytest.mark.parametrize("lag", [0, 40])
def test_a_create_whose_answer_is_lost_is_found_again_however_late_it_is_listed(stage: WiredStage, lag: int) -> None:
    stage.cloud.list_late(lag)
    stage.cloud.lose_answer()
    instance = stage.order()

    stage.let_pass(3)
    assert made(stage) == 1

    assert_one_machine_from_birth_to_end(stage, instance)


def test_a_create_that_never_arrived_is_repeated_once_that_is_sure(stage: WiredStage) -> None:
    stage.cloud.lose_request()
    instance = stage.order()

    stage.let_pass(3)
    assert made(stage) == 0

    assert_one_machine_from_birth_to_end(stage, instance)


def test_an_answer_that_is_lost_on_the_way_to_an_end_leaves_nothing(stage: WiredStage) -> None:
    stage.cloud.list_late(40)
    stage.cloud.lose_answer()
    instance = stage.order()
    stage.let_pass(1)

    stage.end(instance)

    assert stage.billed() == []
    assert made(stage) == 1


def crash(stage: WiredStage) -> None:
    """The worker is struck; its lease runs out."""
    with pytest.raises(Crash):
        stage.let_pass(30)
    stage.let_pass(project.LEASE_SECONDS + 1)


def test_a_worker_that_ends_before_the_machine_is_written_down_leaves_one_machine(stage: WiredStage) -> None:
    instance = stage.order()
    stage.cloud.wire.after = stage.cloud.create

    crash(stage)

    assert_one_machine_from_birth_to_end(stage, instance)


def test_a_worker_that_ends_before_the_create_is_sent_leaves_one_machine(stage: WiredStage) -> None:
    instance = stage.order()
    stage.cloud.wire.before = stage.cloud.create

    crash(stage)

    assert_one_machine_from_birth_to_end(stage, instance)


@pytest.mark.parametrize("cloud", ["scaleway"], indirect=True)
@pytest.mark.parametrize(
    "call", ["PATCH volumes/", "PATCH servers/", "POST servers/"], ids=["tag", "configure", "start"]
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_ends_on_the_way_to_the_start_leaves_one_machine(stage: WiredStage, call: str, when: str) -> None:
    """At AWS the create tags everything, and is the start. Nobody tells since when a machine of Scaleway's has its
    address: what nobody saw at its start counts from the next look."""
    instance = stage.order()
    setattr(stage.cloud.wire, when, call)

    crash(stage)

    unseen = (when, call) == ("after", "POST servers/")
    assert_one_machine_from_birth_to_end(stage, instance, address_seen_late=unseen)


@pytest.mark.parametrize("cloud", ["scaleway"], indirect=True)
def test_a_volume_that_was_never_tagged_goes_with_its_machine(stage: WiredStage) -> None:
    instance = stage.order()
    stage.cloud.wire.before = "PATCH volumes/"
    crash_at_once(stage)

    stage.end(instance)

    assert stage.billed() == []
    assert made(stage) == 1
    assert_the_ledger_is_the_bill(stage)


def crash_at_once(stage: WiredStage) -> None:
    with pytest.raises(Crash):
        stage.let_pass(1)


def test_a_worker_that_ends_in_the_middle_of_a_destruction_leaves_nothing(stage: WiredStage) -> None:
    instance = stage.serve(stage.order())
    stage.cloud.wire.after = "POST servers/" if stage.cloud.name == "scaleway" else "TerminateInstances"

    with pytest.raises(Crash):
        stage.end(instance)
    stage.until(instance, Status.TERMINATED)

    assert stage.billed() == []
