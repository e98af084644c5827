"""RunInstances as the AWS driver asks for it, read off the wire."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.providers.aws import images
from fleet.providers.base import (
    ABSENT,
    TAG_ATTEMPT,
    AmbiguousOutcome,
    CapacityError,
    InvalidSpec,
    Location,
    ServerSpec,
    SshKeySpec,
    Unavailable,
)
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Mishap, Refusal
from tests.clouds.aws.wire import Call
from tests.fleet.providers.conformance import a_spec, destroy, look


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


def requests(cloud: AwsCloud) -> list[dict[str, str]]:
    """What has been asked of RunInstances."""
    return [dict(call.parameters) for call in cloud.aws.calls_to("RunInstances")]


def request_for(cloud: AwsCloud, spec: ServerSpec) -> dict[str, str]:
    cloud.driver().ensure_server(spec)
    return requests(cloud)[-1]


def tags_in(request: dict[str, str]) -> dict[str, dict[str, str]]:
    """By the kind of resource."""
    found: dict[str, dict[str, str]] = {}
    for number in range(1, 10):
        kind = request.get(f"TagSpecification.{number}.ResourceType")
        if kind:
            prefix = f"TagSpecification.{number}.Tag"
            found[kind] = {
                request[f"{prefix}.{index}.Key"]: request[f"{prefix}.{index}.Value"]
                for index in range(1, 10)
                if f"{prefix}.{index}.Key" in request
            }
    return found


# --- idempotency --------------------------------------------------------------------------------------------------


def test_a_repeat_is_the_same_request_to_the_byte(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    cloud.list_late(60)  # so that the look-up by tag finds nothing

    views = [cloud.driver().ensure_server(spec) for _ in range(2)]

    first, again = requests(cloud)
    assert first == again
    assert views[0].handle == views[1].handle
    assert cloud.servers() == 1


def test_a_token_is_ascii_of_the_length_that_aws_takes(cloud: AwsCloud) -> None:
    token = request_for(cloud, a_spec(cloud))["ClientToken"]

    assert token.isascii()
    assert len(token) <= 64


@pytest.mark.parametrize(
    "other",
    [
        {"instance_type": "g5.xlarge"},
        {"location": Location("us-east-1", "us-east-1b")},
        {"attempt_id": "00000000-0000-0000-0000-000000000001"},
    ],
)
def test_another_type_zone_or_attempt_is_another_token(cloud: AwsCloud, other: dict[str, str]) -> None:
    spec = a_spec(cloud)
    cloud.list_late(60)

    tokens = {request_for(cloud, one)["ClientToken"] for one in (spec, replace(spec, **other))}  # type: ignore[arg-type]

    assert len(tokens) == 2


def test_a_token_that_was_used_with_other_bytes_is_an_unclear_outcome_until_its_server_is_listed(
    cloud: AwsCloud,
) -> None:
    spec = a_spec(cloud)
    cloud.list_late(30)
    first = cloud.driver().ensure_server(spec)

    with pytest.raises(AmbiguousOutcome):
        cloud.driver().ensure_server(replace(spec, root_volume_gb=spec.root_volume_gb + 1))
    cloud.pass_time(31)

    assert cloud.driver().ensure_server(spec).handle == first.handle
    assert cloud.servers() == 1


def test_a_token_that_was_used_with_other_bytes_leads_to_the_server_that_it_made(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    cloud.list_late(30)
    first = cloud.driver().ensure_server(spec)

    def listings_catch_up_with(call: Call) -> bool:
        if call.makes_a_server:
            cloud.aws.machines.list_all_now()
        return call.makes_a_server

    cloud.aws.faults.await_call(Refusal(400, "IdempotentParameterMismatch"), which=listings_catch_up_with)

    assert cloud.driver().ensure_server(spec).handle == first.handle
    assert cloud.servers() == 1


def test_a_token_that_was_used_is_unclear_even_where_its_server_cannot_be_looked_up(cloud: AwsCloud) -> None:
    cloud.befall_next_create(Refusal(400, "IdempotentParameterMismatch"))
    cloud.aws.faults.await_call(
        Refusal(403, "UnauthorizedOperation"),
        which=lambda call: call.operation == "DescribeInstances" and bool(requests(cloud)),  # after the create
    )

    with pytest.raises(AmbiguousOutcome, match="looking it up"):
        cloud.driver().ensure_server(a_spec(cloud))


def test_an_attempt_has_no_second_server_even_when_aws_has_forgotten_the_first(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    handle = cloud.driver().ensure_server(spec).handle
    destroy(cloud, handle)
    cloud.pass_time(3 * 3600)
    assert cloud.driver().get(handle) is ABSENT

    with pytest.raises(InvalidSpec, match="IdempotentInstanceTerminated"):
        cloud.driver().ensure_server(spec)

    assert cloud.billed() == 0


@pytest.mark.parametrize(
    "mishap", [Mishap.ANSWER_LOST, Mishap.REQUEST_LOST, Mishap.HTML_502, Mishap.HTML_404, Mishap.HTML_200]
)
def test_the_sdk_does_not_repeat_a_create_by_itself(cloud: AwsCloud, mishap: Mishap) -> None:
    cloud.befall_next_create(mishap)

    with pytest.raises(AmbiguousOutcome):
        cloud.driver().ensure_server(a_spec(cloud))

    assert len(requests(cloud)) == 1


def test_a_create_that_found_nobody_to_talk_to_made_nothing(cloud: AwsCloud) -> None:
    cloud.befall_next_create(Mishap.REFUSED)

    with pytest.raises(Unavailable):
        cloud.driver().ensure_server(a_spec(cloud))

    assert requests(cloud) == []


def test_a_server_that_is_there_is_returned_even_if_its_volumes_cannot_be_looked_up(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    first = cloud.driver().ensure_server(spec)
    cloud.aws.faults.await_call(
        Refusal(403, "UnauthorizedOperation"), which=lambda call: call.operation == "DescribeVolumes"
    )

    found = cloud.driver().ensure_server(spec)

    assert found.handle == first.handle


def test_an_attempt_whose_server_never_ran_for_want_of_capacity_is_a_stockout(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    cloud.sell_out(at_start=True)
    view = cloud.driver().ensure_server(spec)

    assert cloud.driver().get(view.handle) is ABSENT
    with pytest.raises(CapacityError, match=r"Server\.InsufficientInstanceCapacity"):
        cloud.driver().ensure_server(spec)
    assert cloud.billed() == 0


# --- what is asked for --------------------------------------------------------------------------------------------


def test_it_tags_the_machine_its_volume_and_its_interface_in_the_call_that_makes_them(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)

    tags = tags_in(request_for(cloud, spec))

    assert tags == {"instance": spec.tags, "volume": spec.tags, "network-interface": spec.tags}


def test_it_asks_for_one_machine_in_the_zone_with_a_public_address(cloud: AwsCloud) -> None:
    request = request_for(cloud, a_spec(cloud))

    assert (request["MinCount"], request["MaxCount"]) == ("1", "1")
    assert request["Placement.AvailabilityZone"] == cloud.location.zone
    assert request["NetworkInterface.1.AssociatePublicIpAddress"] == "true"
    assert request["NetworkInterface.1.DeleteOnTermination"] == "true"


def test_its_root_volume_is_gp3_of_the_size_asked_for_and_goes_with_the_machine(cloud: AwsCloud) -> None:
    request = request_for(cloud, replace(a_spec(cloud), root_volume_gb=137))

    assert request["BlockDeviceMapping.1.DeviceName"] == "/dev/sda1"
    assert request["BlockDeviceMapping.1.Ebs.VolumeType"] == "gp3"
    assert request["BlockDeviceMapping.1.Ebs.VolumeSize"] == "137"
    assert request["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    assert "BlockDeviceMapping.2.DeviceName" not in request


def test_every_volume_of_an_image_goes_with_the_machine_and_the_root_is_large_enough() -> None:
    image = images.Image(id="ami-1", root_device="/dev/xvda", smallest_root_gb=75, other_volumes=("/dev/sdb",))

    root, other = image.mappings(60)

    assert root["Ebs"] == {"VolumeSize": 75, "VolumeType": "gp3", "DeleteOnTermination": True}
    assert other == {"DeviceName": "/dev/sdb", "Ebs": {"DeleteOnTermination": True}}


def test_its_metadata_service_wants_a_token_and_reaches_into_a_container(cloud: AwsCloud) -> None:
    request = request_for(cloud, a_spec(cloud))

    assert request["MetadataOptions.HttpTokens"] == "required"
    assert request["MetadataOptions.HttpPutResponseHopLimit"] == "2"


def test_a_machine_that_shuts_itself_down_is_terminated(cloud: AwsCloud) -> None:
    assert request_for(cloud, a_spec(cloud))["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_it_is_on_demand_unless_spot_is_asked_for(cloud: AwsCloud) -> None:
    assert not [name for name in request_for(cloud, a_spec(cloud)) if name.startswith("InstanceMarketOptions")]


def test_a_spot_machine_is_asked_for_once_and_ends_when_it_is_taken_back(cloud: AwsCloud) -> None:
    spec = replace(a_spec(cloud), spot=True)

    request = request_for(cloud, spec)

    assert request["InstanceMarketOptions.MarketType"] == "spot"
    assert request["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"
    assert request["InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior"] == "terminate"
    assert tags_in(request)["spot-instances-request"] == spec.tags


def test_it_uses_the_deep_learning_image_unless_told_otherwise(cloud: AwsCloud) -> None:
    cloud.driver().ensure_server(a_spec(cloud))
    cloud.driver(image="ami-785db401").ensure_server(a_spec(cloud))

    assert [request["ImageId"] for request in requests(cloud)] == ["ami-dca37ea5", "ami-785db401"]


def test_an_image_may_be_named_by_an_ssm_parameter(cloud: AwsCloud) -> None:
    parameter = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"

    cloud.driver(image=parameter).ensure_server(a_spec(cloud))

    assert requests(cloud)[0]["ImageId"].startswith("ami-")


@pytest.mark.parametrize("image", ["ami-00000000", "/no/such/parameter"])
def test_an_image_that_the_region_lacks_is_refused(cloud: AwsCloud, image: str) -> None:
    with pytest.raises(InvalidSpec, match=image):
        cloud.driver(image=image).ensure_server(a_spec(cloud))

    assert cloud.billed() == 0


def test_it_refuses_user_data_that_aws_would_not_take(cloud: AwsCloud) -> None:
    with pytest.raises(InvalidSpec, match="16384 bytes"):
        cloud.driver().ensure_server(replace(a_spec(cloud), user_data="#" * 16_385))

    assert requests(cloud) == []


# --- SSH keys -----------------------------------------------------------------------------------------------------

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"


def test_a_key_has_the_same_id_in_every_region_and_whatever_its_comment(cloud: AwsCloud) -> None:
    key_id = cloud.driver().ensure_ssh_key(SshKeySpec("ada", f"{KEY} ada@laptop"))

    assert cloud.driver().ensure_ssh_key(SshKeySpec("grace", KEY)) == key_id
    for location in (cloud.location, cloud.other_location):
        assert request_for(cloud, replace(a_spec(cloud, location=location), ssh_key_ids=(key_id,)))["KeyName"] == key_id


def test_a_key_that_the_region_lacks_is_refused(cloud: AwsCloud) -> None:
    with pytest.raises(InvalidSpec, match=r"InvalidKeyPair\.NotFound"):
        cloud.driver().ensure_server(replace(a_spec(cloud), ssh_key_ids=("inventiv-0",)))

    assert cloud.billed() == 0


@pytest.mark.parametrize("public_key", ["", "ssh-ed25519", "ssh-ed25519 nonsense"])
def test_it_refuses_what_is_no_public_key(cloud: AwsCloud, public_key: str) -> None:
    with pytest.raises(InvalidSpec):
        cloud.driver().ensure_ssh_key(SshKeySpec("ada", public_key))


def test_the_tags_lead_to_the_volume_too(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)

    view = look(cloud, cloud.driver().ensure_server(spec).handle)

    volumes = [thing for thing in view.attachments if thing.id in view.handle.volume_ids]
    assert [volume.tags[TAG_ATTEMPT] for volume in volumes] == [spec.attempt_id]
