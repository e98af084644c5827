"""A spot machine of AWS: its price, and what happens when it is taken back."""

from __future__ import annotations

from decimal import Decimal

import pytest

from fleet.lifecycle import liveness
from fleet.models import Deployment, Instance
from fleet.orders import CommandRefused
from fleet.states import Status
from routing.discovery import keys
from tests.fleet.end_to_end.bills import assert_the_ledger_is_the_bill
from tests.fleet.end_to_end.stage import WiredStage

ONLY_AWS = pytest.mark.parametrize("cloud", ["aws"], indirect=True)
SPOT_PRICE = Decimal("0.00001")  # of the stand-in


def announce_the_end(stage: WiredStage, instance: Instance) -> None:
    """What the agent has read in the machine's metadata, by its heartbeat."""
    stage.heartbeat(instance)
    at = f"{stage.world.now():%Y-%m-%dT%H:%M:%SZ}"
    stage.redis.hset(keys.instance(str(instance.pk)), "interruption", at)
    liveness.read_heartbeats(stage.world)


@ONLY_AWS
def test_a_machine_asked_for_as_spot_is_one_at_the_spot_price(stage: WiredStage) -> None:
    instance = stage.serve(stage.order(stage.cloud.instance_type, spot=True))

    assert instance.price_per_hour == SPOT_PRICE
    assert instance.attempts.get().spot
    assert [line.price_per_hour for line in stage.cloud.bill() if line.kind == "server"] == [SPOT_PRICE]
    stage.end(instance)
    assert_the_ledger_is_the_bill(stage)


@ONLY_AWS
def test_one_that_is_taken_back_drains_and_another_stands_in_for_it_elsewhere(stage: WiredStage) -> None:
    instance = stage.serve(stage.order(stage.cloud.instance_type, spot=True))

    announce_the_end(stage, instance)
    stage.until(instance, Status.TERMINATED)

    stand_in = Deployment.objects.get(replaces=instance).instance
    stage.serve(stand_in)
    (before,), (after,) = (row.attempts.select_related("zone") for row in (instance, stand_in))
    assert after.spot
    assert after.zone != before.zone
    assert stage.billed("server") == [stand_in.provider_instance_id]


@ONLY_AWS
def test_one_that_goes_without_notice_is_stood_in_for_too(stage: WiredStage) -> None:
    instance = stage.serve(stage.order(stage.cloud.instance_type, spot=True))
    assert instance.provider_instance_id

    stage.cloud.remove_server(instance.provider_instance_id)
    stage.let_pass(60)  # the worker is silent
    liveness.read_heartbeats(stage.world)
    stage.until(instance, Status.TERMINATED)

    stand_in = Deployment.objects.get(replaces=instance).instance
    stage.until(stand_in, Status.BOOTING)
    assert stage.billed("server") == [stand_in.provider_instance_id]


@pytest.mark.parametrize("cloud", ["scaleway"], indirect=True)
def test_where_nothing_is_rented_as_spot_the_order_is_refused(stage: WiredStage) -> None:
    with pytest.raises(CommandRefused, match="no offer fits"):
        stage.order(spot=True)
