"""Whether a machine got on its way, and why it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.providers.aws import servers
from fleet.providers.aws.errors import translated
from fleet.providers.base import CapacityError, Conflict, InvalidSpec, NotFound, ProviderError, QuotaError

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import InstanceTypeDef

# Codes of the state reason ("StateReason" in the EC2 API): a launch that was accepted, and then came to nothing.
_WHY_IT_ENDED: dict[str, type[ProviderError]] = {
    "Server.InsufficientInstanceCapacity": CapacityError,
    "Server.SpotInstanceTermination": CapacityError,
    "Server.SpotInstanceShutdown": CapacityError,
    "Server.InternalError": CapacityError,  # of the host: another offer may do better
    "Client.VolumeLimitExceeded": QuotaError,
    "Client.InvalidSnapshot.NotFound": InvalidSpec,
    "Client.InternalError": InvalidSpec,  # mostly a key of an encrypted volume that may not be used
}


def start(ec2: EC2Client, instance: InstanceTypeDef) -> None:
    state = servers.state_of(instance)
    if state in {"pending", "running"}:
        return
    if state in {servers.SHUTTING_DOWN, servers.TERMINATED}:
        raise why_it_ended(instance)
    if state != servers.STOPPED:
        raise Conflict(f"{instance['InstanceId']} can't be started while it is {state or 'in no known state'}")
    with translated():
        ec2.start_instances(InstanceIds=[instance["InstanceId"]])


def why_it_ended(instance: InstanceTypeDef) -> ProviderError:
    """For an instance that is being terminated, or is."""
    code, state = servers.why_it_changed(instance), servers.state_of(instance)
    if code in _WHY_IT_ENDED:
        message = instance.get("StateReason", {}).get("Message", "")
        return _WHY_IT_ENDED[code](f"{instance['InstanceId']} is {state}: {code}: {message}")
    kind = NotFound if state == servers.TERMINATED else Conflict
    return kind(f"{instance['InstanceId']} is {state} ({code or 'no reason given'})")
