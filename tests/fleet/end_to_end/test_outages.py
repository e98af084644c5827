"""A cloud that refuses everything for a while: nothing is believed gone or made twice, and it passes by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet import commands
from fleet.models import Instance, Rental, Sweep
from fleet.states import Status
from tests.fleet.end_to_end.bills import assert_the_ledger_is_the_bill
from tests.fleet.end_to_end.clouds import OUTAGES
from tests.fleet.end_to_end.stage import WiredStage
from tests.fleet.stage import OPERATOR

EACH = pytest.mark.parametrize("how", OUTAGES)


def servers(stage: WiredStage) -> list[str]:
    return [line.id for line in stage.cloud.bill() if line.kind == "server"]


@EACH
def test_what_serves_goes_on_and_what_is_to_end_ends_when_the_cloud_is_back(stage: WiredStage, how: str) -> None:
    serving, ending = (stage.serve(stage.order()) for _ in range(2))
    stage.cloud.refuse_everything(how)
    commands.request_termination(ending.pk, actor=OPERATOR, reason="done", now=stage.world.now(), drain=False)

    stage.let_pass(300, every=10)

    assert Instance.objects.get(pk=serving.pk).status == Status.READY
    assert Instance.objects.get(pk=ending.pk).status == Status.DRAINING
    assert Rental.objects.filter(until=None).count() == 6
    assert Sweep.objects.exclude(last_error="").count() == len(stage.cloud.zones)
    stage.cloud.refuse_everything("")
    stage.until(ending, Status.TERMINATED)
    assert stage.billed("server") == [serving.provider_instance_id]
    stage.end(Instance.objects.get(pk=serving.pk))
    assert stage.billed() == []
    assert len(servers(stage)) == 2


@pytest.mark.parametrize("how", [how for how in OUTAGES if how != "401"])
def test_a_launch_waits_until_the_cloud_is_back(stage: WiredStage, how: str) -> None:
    stage.cloud.refuse_everything(how)
    instance = stage.order()

    stage.let_pass(180, every=10)

    assert Instance.objects.get(pk=instance.pk).status == Status.PROVISIONING
    assert servers(stage) == []
    stage.cloud.refuse_everything("")
    stage.until(instance, Status.BOOTING)
    assert len(servers(stage)) == 1


def test_wrong_credentials_end_a_launch_at_once_with_an_alarm(
    stage: WiredStage, caplog: pytest.LogCaptureFixture
) -> None:
    """Repeating can't help: somebody must do something."""
    stage.cloud.refuse_everything("401")
    instance = stage.order()

    stage.let_pass(2)

    instance.refresh_from_db()
    assert Status.FAILED in stage.moves(instance)
    assert "ALARM" in caplog.text
    assert servers(stage) == []


@EACH
def test_a_machine_whose_cloud_falls_silent_while_it_starts_is_one_machine(stage: WiredStage, how: str) -> None:
    instance = stage.order()
    stage.let_pass(1)
    stage.cloud.refuse_everything(how)
    stage.let_pass(120, every=5)
    stage.cloud.refuse_everything("")

    stage.let_pass(120)

    instance.refresh_from_db()
    # Where the refusal speaks of the credentials the launch has failed, and its machine is destroyed.
    if how == "401":
        assert instance.status == Status.TERMINATED
        assert stage.billed() == []
        assert_the_ledger_is_the_bill(stage, within=timedelta(seconds=15))  # looks come ever more rarely
    else:
        assert instance.status == Status.BOOTING
        assert stage.billed("server") == [instance.provider_instance_id]
    assert len(servers(stage)) == 1
