"""An instance as AWS may describe it, and what the driver makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from fleet.providers.aws import power, servers
from fleet.providers.base import (
    CapacityError,
    Conflict,
    InvalidSpec,
    Location,
    NotFound,
    ProviderError,
    QuotaError,
    ServerState,
)

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import InstanceTypeDef

HERE = Location("us-east-1", "us-east-1a")


def test_of_an_instance_the_id_is_enough() -> None:
    view = servers.view_of({"InstanceId": "i-1"}, HERE)

    assert (view.handle.server_id, view.state, view.ip_address) == ("i-1", ServerState.UNKNOWN, None)
    assert (view.handle.volume_ids, view.tags, view.attachments, view.created_at) == ((), {}, (), None)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("pending", ServerState.STARTING),
        ("running", ServerState.RUNNING),
        ("stopping", ServerState.STOPPING),
        ("shutting-down", ServerState.STOPPING),
        ("stopped", ServerState.STOPPED),
        ("hibernating", ServerState.UNKNOWN),
    ],
)
def test_a_state_is_named_in_our_words(name: str, state: ServerState) -> None:
    instance: InstanceTypeDef = {"InstanceId": "i-1", "State": {"Name": name}}  # type: ignore[typeddict-item]

    assert servers.view_of(instance, HERE).state is state


def test_what_is_new_in_a_description_is_passed_over() -> None:
    instance = {
        "InstanceId": "i-1",
        "State": {"Name": "running", "Mood": "good"},
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"}, {}],
        "Tags": [{"Key": "inv-attempt"}, {"Key": "inv-owner", "Value": "inventiv"}],
        "QuantumOptions": {"Enabled": True},
    }

    view = servers.view_of(instance, HERE)  # type: ignore[arg-type]

    assert view.state is ServerState.RUNNING
    assert view.tags == {"inv-attempt": "", "inv-owner": "inventiv"}
    assert view.handle.volume_ids == ()


def test_a_volume_without_figures_is_a_volume() -> None:
    volume = servers.volume_of({"VolumeId": "vol-1", "CreateTime": datetime(2026, 10, 1, tzinfo=UTC)}, HERE)

    assert (volume.id, volume.server_id, volume.price_per_hour) == ("vol-1", "", Decimal(0))


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("Server.InsufficientInstanceCapacity", CapacityError),
        ("Server.SpotInstanceTermination", CapacityError),
        ("Server.InternalError", CapacityError),
        ("Client.VolumeLimitExceeded", QuotaError),
        ("Client.InvalidSnapshot.NotFound", InvalidSpec),
        ("Client.UserInitiatedShutdown", NotFound),
        ("Client.InstanceInitiatedShutdown", NotFound),
        ("", NotFound),
    ],
)
def test_why_a_machine_ended_says_what_to_do_next(code: str, error: type[ProviderError]) -> None:
    instance: InstanceTypeDef = {
        "InstanceId": "i-1",
        "State": {"Name": "terminated"},
        "StateReason": {"Code": code, "Message": f"{code}: for a reason"},
    }

    assert type(power.why_it_ended(instance)) is error


def test_a_machine_that_is_still_going_is_looked_at_again() -> None:
    instance: InstanceTypeDef = {"InstanceId": "i-1", "State": {"Name": "shutting-down"}}

    assert type(power.why_it_ended(instance)) is Conflict
