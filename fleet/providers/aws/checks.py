"""What renting in a zone needs, and whether the account has it: found out with reads and dry runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from fleet.providers.aws import images, launch, network
from fleet.providers.aws.clients import Clients
from fleet.providers.aws.errors import DryRunSucceeded, translated
from fleet.providers.base import (
    AuthError,
    Finding,
    InvalidSpec,
    Location,
    NotFound,
    ProviderError,
    ServerSpec,
    Verdict,
)

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import RunInstancesRequestTypeDef

# https://docs.aws.amazon.com/servicequotas: vCPUs at once, per region; new accounts start at 0.
_QUOTAS = {
    "L-DB2E81BA": "on-demand G and VT types",
    "L-417A185B": "on-demand P types",
    "L-3819A6DF": "spot G and VT types",
    "L-7212CCBC": "spot P types",
}
_NO_INSTANCE = "i-00000000000000000"
_TYPE_OF_THE_DRY_RUN = "g4dn.xlarge"  # the smallest, in the most zones


def of(clients: Clients, location: Location, *, image: str, subnets: Mapping[str, str]) -> Sequence[Finding]:
    credentials = _finding("credentials", lambda: _identity(clients, location))
    if credentials.verdict is not Verdict.WORKS:
        return (credentials,)  # nothing else could be found out
    return (credentials, *_of_the_account(clients, location, image=image, subnets=subnets))


def _of_the_account(
    clients: Clients, location: Location, *, image: str, subnets: Mapping[str, str]
) -> Iterator[Finding]:
    ec2 = clients.ec2(location.region)
    yield _finding("image", lambda: images.look_up(clients, location.region, image).id)
    yield _finding("network", lambda: f"subnet {network.subnet_of(ec2, location, subnets).id}")
    yield _finding("permission to create servers", lambda: _dry_run(clients, location, image=image, subnets=subnets))
    yield _finding("permission to make a security group", lambda: _dry_group(ec2, location, subnets))
    yield _permission_to_destroy(ec2)
    for code, name in _QUOTAS.items():
        yield _quota(clients, location, code, name)


def _finding(subject: str, find_out: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, Verdict.WORKS, find_out())
    except (AuthError, InvalidSpec, NotFound) as error:
        return Finding(subject, Verdict.MISSING, str(error))
    except ProviderError as error:
        return Finding(subject, Verdict.UNCLEAR, str(error))


def _identity(clients: Clients, location: Location) -> str:
    with translated():
        who = clients.sts(location.region).get_caller_identity()
    return f"{who.get('Arn', '')} of account {who.get('Account', '')}"


def _dry_run(clients: Clients, location: Location, *, image: str, subnets: Mapping[str, str]) -> str:
    ec2 = clients.ec2(location.region)
    request = launch.request_of(
        _spec_of_the_dry_run(location),
        image=images.look_up(clients, location.region, image),
        subnet=network.subnet_of(ec2, location, subnets),
        group_ids=[],
    )
    dry: RunInstancesRequestTypeDef = {**request, "DryRun": True}
    try:
        with translated():
            ec2.run_instances(**dry)
    except DryRunSucceeded:
        return "servers may be created, with their tags"
    raise ProviderError("the dry run was answered as if it had not been one")


def _dry_group(ec2: EC2Client, location: Location, subnets: Mapping[str, str]) -> str:
    vpc_id = network.subnet_of(ec2, location, subnets).vpc_id
    try:
        with translated():
            ec2.create_security_group(GroupName="inventiv-check", Description="a dry run", VpcId=vpc_id, DryRun=True)
    except DryRunSucceeded:
        return f"security groups may be made in {vpc_id}"
    raise ProviderError("the dry run was answered as if it had not been one")


def _permission_to_destroy(ec2: EC2Client) -> Finding:
    subject = "permission to destroy servers"
    try:
        with translated():
            ec2.terminate_instances(InstanceIds=[_NO_INSTANCE], DryRun=True)
    except (DryRunSucceeded, NotFound):
        # AWS looks at the permission first, and at the instance then.
        return Finding(subject, Verdict.WORKS, "not refused, for an instance that does not exist")
    except AuthError as error:
        return Finding(subject, Verdict.MISSING, f"what is rented could not be given back: {error}")
    except ProviderError as error:
        return Finding(subject, Verdict.UNCLEAR, str(error))
    return Finding(subject, Verdict.UNCLEAR, "the dry run was answered as if it had not been one")


def _spec_of_the_dry_run(location: Location) -> ServerSpec:
    return ServerSpec(
        attempt_id="check",
        instance_id="check",
        location=location,
        instance_type=_TYPE_OF_THE_DRY_RUN,
        root_volume_gb=60,
        user_data="#cloud-config\n{}\n",
    )


def _quota(clients: Clients, location: Location, code: str, name: str) -> Finding:
    subject = f"quota of {name}"
    try:
        with translated():
            answer = clients.service_quotas(location.region).get_service_quota(ServiceCode="ec2", QuotaCode=code)
    except ProviderError as error:  # whoever may rent need not be allowed to read quotas
        return Finding(subject, Verdict.UNCLEAR, str(error))
    value = answer.get("Quota", {}).get("Value")
    if value is None:
        return Finding(subject, Verdict.UNCLEAR, f"AWS names no value for {code}")
    if value > 0:
        return Finding(subject, Verdict.WORKS, f"{value:.0f} vCPUs at once in {location.region}")
    ask = f"ask for vCPUs under Service Quotas > Amazon EC2 > {code} in {location.region}"
    return Finding(subject, Verdict.MISSING, f"0 vCPUs, so that nothing of it can be rented: {ask}")
