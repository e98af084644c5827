"""What AWS answers, over the wire, and what the driver makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from fleet.providers.base import (
    ABSENT,
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Conflict,
    InvalidSpec,
    ProviderError,
    QuotaError,
    Throttled,
    Unavailable,
)
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Mishap, Refusal, Trouble
from tests.fleet.providers.conformance import a_spec, look

SECRETS = ("wJalrXUtnFEMI-canary-secret", "canary-bootstrap-token")

OF_A_CREATE: list[tuple[int, str, type[ProviderError]]] = [
    (500, "InsufficientInstanceCapacity", CapacityError),  # a 500, though it is a clear answer
    (400, "InsufficientFreeAddressesInSubnet", CapacityError),
    (400, "UnfulfillableCapacity", CapacityError),
    (400, "Unsupported", CapacityError),
    (400, "MaxSpotInstanceCountExceeded", CapacityError),
    (400, "SpotMaxPriceTooLow", CapacityError),
    (400, "VcpuLimitExceeded", QuotaError),
    (400, "InstanceLimitExceeded", QuotaError),
    (400, "VolumeLimitExceeded", QuotaError),
    (503, "RequestLimitExceeded", Throttled),  # a 503, though nothing was made
    (400, "Throttling", Throttled),
    (401, "AuthFailure", AuthError),
    (403, "UnauthorizedOperation", AuthError),
    (400, "PendingVerification", AuthError),
    (400, "RequestExpired", AuthError),
    (400, "InvalidParameterValue", InvalidSpec),
    (400, "InvalidAMIID.NotFound", InvalidSpec),
    (400, "InvalidSubnetID.NotFound", InvalidSpec),
    (400, "SomethingNew", InvalidSpec),
    (400, "IdempotentInstanceTerminated", InvalidSpec),
    (400, "InvalidGroup.NotFound", Conflict),  # made a moment ago: it will be there
    (500, "InternalError", AmbiguousOutcome),
    (503, "Unavailable", AmbiguousOutcome),
    (503, "SomethingNew", AmbiguousOutcome),
]


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


@pytest.mark.parametrize(("status", "code", "error"), OF_A_CREATE)
def test_an_answer_to_a_create_is_decided_by_its_code(
    cloud: AwsCloud, status: int, code: str, error: type[ProviderError]
) -> None:
    cloud.befall_next_create(Refusal(status, code))

    with pytest.raises(error, match=code):
        cloud.driver().ensure_server(a_spec(cloud))

    assert cloud.billed() == 0


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (Refusal(503, "RequestLimitExceeded"), Throttled),
        (Refusal(500, "InternalError"), Unavailable),
        (Refusal(403, "UnauthorizedOperation"), AuthError),
        (Refusal(400, "InvalidInstanceID.Malformed"), InvalidSpec),
        (Mishap.EMPTY_429, Throttled),
        (Mishap.HTML_502, Unavailable),
        (Mishap.HTML_200, Unavailable),
        (Mishap.HTML_404, Unavailable),
        (Mishap.REQUEST_LOST, Unavailable),
        (Mishap.ANSWER_LOST, Unavailable),
    ],
)
def test_whatever_a_look_meets_it_is_not_taken_for_absence(
    cloud: AwsCloud, trouble: Trouble, error: type[ProviderError]
) -> None:
    handle = cloud.driver().ensure_server(a_spec(cloud)).handle
    cloud.aws.faults.await_call(trouble)

    with pytest.raises(error):
        cloud.driver().get(handle)


def test_only_the_typed_not_found_is_absence(cloud: AwsCloud) -> None:
    handle = cloud.driver().ensure_server(a_spec(cloud)).handle
    cloud.aws.faults.await_call(Refusal(400, "InvalidInstanceID.NotFound"))

    assert cloud.driver().get(handle) is ABSENT


def test_an_empty_page_is_not_absence(cloud: AwsCloud) -> None:
    handle = cloud.driver().ensure_server(a_spec(cloud)).handle
    cloud.aws.faults.await_call(Mishap.EMPTY_PAGE)

    with pytest.raises(Unavailable, match=handle.server_id):
        cloud.driver().get(handle)


def test_a_create_that_is_answered_without_a_machine_is_unclear(cloud: AwsCloud) -> None:
    cloud.befall_next_create(Mishap.EMPTY_PAGE)

    with pytest.raises(AmbiguousOutcome):
        cloud.driver().ensure_server(a_spec(cloud))


def test_the_sdk_repeats_a_look_once(cloud: AwsCloud) -> None:
    handle = cloud.driver().ensure_server(a_spec(cloud)).handle
    before = len(cloud.aws.calls)
    cloud.aws.faults.await_call(Refusal(503, "RequestLimitExceeded"))

    with pytest.raises(Throttled):
        cloud.driver().get(handle)

    assert len(cloud.aws.calls) - before == 2


def test_a_machine_in_a_state_that_is_new_to_us_is_neither_running_nor_gone(cloud: AwsCloud) -> None:
    handle = cloud.driver().ensure_server(a_spec(cloud)).handle
    cloud.aws.machines.region("us-east-1").get_instance(handle.server_id)._state.name = "hibernating"

    assert look(cloud, handle).state == "unknown"


@pytest.mark.parametrize(
    "trouble", [Refusal(401, "AuthFailure"), Refusal(400, "SomethingNew"), Mishap.HTML_502, Mishap.REFUSED]
)
def test_no_error_tells_a_secret(cloud: AwsCloud, trouble: Trouble) -> None:
    cloud.befall_next_create(trouble)

    with pytest.raises(ProviderError) as raised:
        cloud.driver().ensure_server(replace(a_spec(cloud), user_data=f"#cloud-config\n# {SECRETS[1]}\n"))

    assert not [secret for secret in SECRETS if secret in str(raised.value)]


def test_parameters_that_the_sdk_refuses_are_not_quoted(cloud: AwsCloud) -> None:
    spec = replace(a_spec(cloud), user_data=f"# {SECRETS[1]}\n", ssh_key_ids=(cast(str, 5),))

    with pytest.raises(InvalidSpec) as raised:
        cloud.driver().ensure_server(spec)

    assert SECRETS[1] not in str(raised.value)
    assert raised.value.__suppress_context__


def test_an_encoded_authorization_message_is_left_out(cloud: AwsCloud) -> None:
    message = "You are not authorized to perform: ec2:RunInstances. Encoded authorization failure message: 4GIOHlTkIa"
    cloud.befall_next_create(Refusal(403, "UnauthorizedOperation", message))

    with pytest.raises(AuthError) as raised:
        cloud.driver().ensure_server(a_spec(cloud))

    assert "ec2:RunInstances" in str(raised.value)
    assert "4GIOHlTkIa" not in str(raised.value)


def test_without_any_credentials_it_is_an_error_of_authorization(
    cloud: AwsCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    with pytest.raises(AuthError):
        cloud.driver(access_key_id="", secret_access_key="").locations()
