"""What a cloud refuses: the next offer is tried, the refused one left alone for a while, and nothing is left."""

from __future__ import annotations

from datetime import timedelta

import pytest

from catalog.models import InstanceAvailability
from fleet.models import QuotaRefusal
from fleet.states import Status
from tests.fleet.end_to_end.bills import assert_the_ledger_is_the_bill
from tests.fleet.end_to_end.stage import WiredStage

AT_START = pytest.mark.parametrize("at_start", [False, True], ids=["at create", "at start"])


def sell_out(stage: WiredStage, instance_type: str, *, at_start: bool) -> None:
    for zone in stage.cloud.zones:
        stage.cloud.sell_out(instance_type, zone.zone, at_start=at_start)


@AT_START
def test_without_capacity_it_goes_on_to_the_next_zone_and_then_to_a_larger_type(
    stage: WiredStage, at_start: bool
) -> None:
    cloud, (here, there) = stage.cloud, (zone.zone for zone in stage.cloud.zones)
    sell_out(stage, cloud.instance_type, at_start=at_start)
    instance = stage.order(cloud.instance_type, cloud.larger)

    stage.until(instance, Status.BOOTING, at_most=600)

    refused = [(cloud.instance_type, here, "capacity"), (cloud.instance_type, there, "capacity")]
    assert stage.attempts(instance)[:2] == refused
    assert [(kind, code) for kind, _, code in stage.attempts(instance)[2:]] == [(cloud.larger, "")]
    assert len(stage.billed("server")) == 1
    stage.end(instance)
    assert stage.billed() == []
    # AWS itself ends what it could not start; that is seen at the next look.
    assert_the_ledger_is_the_bill(stage, within=timedelta(seconds=3 if at_start else 1))


@AT_START
def test_what_was_refused_to_one_is_left_alone_by_the_next_for_three_minutes(stage: WiredStage, at_start: bool) -> None:
    cloud, (here, there) = stage.cloud, stage.cloud.zones
    cloud.sell_out(cloud.instance_type, here.zone, at_start=at_start)
    first = stage.until(stage.order(cloud.instance_type), Status.BOOTING)
    refused_at = InstanceAvailability.objects.get(
        instance_type__name=cloud.instance_type, zone__name=here.zone
    ).last_stockout_at
    cloud.restock()

    second = stage.until(stage.order(cloud.instance_type), Status.BOOTING)
    third = stage.order(cloud.instance_type, zones=(here.zone,))
    stage.let_pass(1)

    assert stage.attempts(first)[0] == (cloud.instance_type, here.zone, "capacity")
    assert stage.attempts(second) == [(cloud.instance_type, there.zone, "")]
    assert stage.attempts(third) == []  # it waits: nothing else is within its limits
    stage.until(third, Status.BOOTING)
    assert refused_at is not None
    assert third.attempts.get().started_at >= refused_at + timedelta(minutes=3)
    assert third.attempts.get().started_at <= refused_at + timedelta(minutes=3, seconds=15)


def test_a_quota_rules_the_type_out_in_the_account_for_a_quarter_of_an_hour(stage: WiredStage) -> None:
    cloud = stage.cloud
    cloud.refuse_quota()

    first = stage.until(stage.order(cloud.instance_type, cloud.larger), Status.BOOTING)
    second = stage.until(stage.order(cloud.instance_type, cloud.larger), Status.BOOTING)

    assert [(kind, code) for kind, _, code in stage.attempts(first)] == [
        (cloud.instance_type, "quota"),
        (cloud.larger, ""),
    ]
    assert [kind for kind, _, _ in stage.attempts(second)] == [cloud.larger]
    assert QuotaRefusal.objects.get().instance_type.name == cloud.instance_type
    stage.let_pass(15 * 60, every=60)
    third = stage.until(stage.order(cloud.instance_type, cloud.larger), Status.BOOTING)
    assert [kind for kind, _, _ in stage.attempts(third)] == [cloud.instance_type]


def test_where_all_is_sold_out_each_offer_keeps_its_reason_and_nothing_is_billed(stage: WiredStage) -> None:
    sell_out(stage, stage.cloud.instance_type, at_start=False)
    instance = stage.order(stage.cloud.instance_type)

    stage.until(instance, Status.TERMINATED)

    assert "FAILED" in stage.moves(instance)
    reason = instance.transitions.get(to_status="FAILED").reason
    assert [reason.count(f"{zone.zone}: capacity") for zone in stage.cloud.zones] == [1, 1]
    assert all(attempt.detail for attempt in instance.attempts.all())
    assert stage.billed() == []


@pytest.mark.parametrize("cloud", ["aws"], indirect=True)
def test_a_launch_that_aws_ends_for_want_of_capacity_is_a_stockout_like_any_other(stage: WiredStage) -> None:
    """RunInstances is answered with a machine, which is terminated a moment later."""
    cloud, (here, there) = stage.cloud, stage.cloud.zones
    cloud.sell_out(cloud.instance_type, here.zone, at_start=True)
    instance = stage.order(cloud.instance_type)

    stage.until(instance, Status.BOOTING)

    assert stage.attempts(instance) == [
        (cloud.instance_type, here.zone, "capacity"),
        (cloud.instance_type, there.zone, ""),
    ]
    assert "InsufficientInstanceCapacity" in instance.attempts.get(ordinal=1).detail
    offer = InstanceAvailability.objects.get(instance_type__name=cloud.instance_type, zone__name=here.zone)
    assert offer.last_stockout_at is not None
