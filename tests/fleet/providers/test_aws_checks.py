"""What the AWS driver says that renting would need, without renting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fleet.providers.base import Finding, Verdict
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Mishap, Refusal, Trouble


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


def findings(cloud: AwsCloud, **options: Any) -> dict[str, Finding]:
    return {finding.subject: finding for finding in cloud.driver(**options).check(cloud.location)}


_MUTATING = ("RunInstances", "CreateSecurityGroup", "TerminateInstances", "ImportKeyPair", "CreateTags")


def is_call(operation: str) -> Any:
    return lambda call: call.operation == operation


def test_a_good_account_has_everything(cloud: AwsCloud) -> None:
    found = findings(cloud)

    assert list(found) == [
        "credentials",
        "image",
        "network",
        "permission to create servers",
        "permission to make a security group",
        "permission to destroy servers",
        "quota of on-demand G and VT types",
        "quota of on-demand P types",
        "quota of spot G and VT types",
        "quota of spot P types",
    ]
    assert {finding.verdict for finding in found.values()} == {Verdict.WORKS}


def test_it_rents_nothing(cloud: AwsCloud) -> None:
    findings(cloud)

    assert cloud.billed() == 0
    assert cloud.servers() == 0
    changing = [call for name in _MUTATING for call in cloud.aws.calls_to(name)]
    assert len(changing) == 3
    assert {call.parameters.get("DryRun") for call in changing} == {"true"}


def test_with_wrong_credentials_nothing_else_is_asked(cloud: AwsCloud) -> None:
    cloud.aws.faults.await_call(Refusal(403, "InvalidClientTokenId"))

    found = findings(cloud)

    assert [(one.subject, one.verdict) for one in found.values()] == [("credentials", Verdict.MISSING)]
    assert len(cloud.aws.calls) == 1


def test_an_aws_that_cannot_be_reached_is_unclear(cloud: AwsCloud) -> None:
    cloud.aws.faults.await_call(Mishap.REFUSED)

    assert findings(cloud)["credentials"].verdict is Verdict.UNCLEAR


def test_a_quota_of_zero_is_missing_and_says_what_to_do(cloud: AwsCloud) -> None:
    cloud.aws.catalogue.quotas["L-DB2E81BA"] = 0

    found = findings(cloud)

    assert found["quota of on-demand G and VT types"].verdict is Verdict.MISSING
    assert "Service Quotas > Amazon EC2 > L-DB2E81BA" in found["quota of on-demand G and VT types"].detail
    assert found["quota of on-demand P types"].verdict is Verdict.WORKS


@pytest.mark.parametrize(
    ("operation", "trouble", "subject", "verdict"),
    [
        ("RunInstances", Refusal(403, "UnauthorizedOperation"), "permission to create servers", Verdict.MISSING),
        ("RunInstances", Refusal(400, "Unsupported"), "permission to create servers", Verdict.UNCLEAR),
        ("RunInstances", Refusal(503, "RequestLimitExceeded"), "permission to create servers", Verdict.UNCLEAR),
        ("CreateSecurityGroup", Refusal(403, "AccessDenied"), "permission to make a security group", Verdict.MISSING),
        ("TerminateInstances", Refusal(403, "AccessDenied"), "permission to destroy servers", Verdict.MISSING),
        ("TerminateInstances", Refusal(500, "InternalError"), "permission to destroy servers", Verdict.UNCLEAR),
        (
            "TerminateInstances",
            Refusal(400, "InvalidInstanceID.NotFound"),
            "permission to destroy servers",
            Verdict.WORKS,
        ),
        ("GetParameter", Refusal(400, "AccessDeniedException"), "image", Verdict.MISSING),
        ("DescribeSubnets", Refusal(403, "UnauthorizedOperation"), "network", Verdict.MISSING),
        (
            "GetServiceQuota",
            Refusal(400, "AccessDeniedException"),
            "quota of on-demand G and VT types",
            Verdict.UNCLEAR,
        ),
    ],
)
def test_what_is_refused_is_missing_and_what_is_not_told_is_unclear(
    cloud: AwsCloud, operation: str, trouble: Trouble, subject: str, verdict: Verdict
) -> None:
    cloud.aws.faults.await_call(trouble, which=is_call(operation))

    assert findings(cloud)[subject].verdict is verdict


def test_an_image_that_the_region_lacks_is_missing(cloud: AwsCloud) -> None:
    found = findings(cloud, image="ami-00000000")

    assert found["image"].verdict is Verdict.MISSING
    assert "ami-00000000" in found["image"].detail


def test_a_zone_without_a_default_subnet_says_what_to_do(cloud: AwsCloud) -> None:
    backend = cloud.aws.machines.region("us-east-1")
    backend.delete_subnet(backend.get_default_subnets()["us-east-1a"].id)

    network = findings(cloud)["network"]

    assert network.verdict is Verdict.MISSING
    assert "create-default-subnet" in network.detail
