"""Nothing of ours is left at AWS, and nothing of others is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.providers.base import ABSENT, TAG_ATTEMPT, AuthError, Conflict, Handle, ServerState
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Refusal
from tests.fleet.providers.conformance import OWNER, a_spec, destroy, look, started


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


def make_volume(cloud: AwsCloud, tags: dict[str, str]) -> str:
    backend = cloud.aws.machines.region(cloud.location.region)
    volume = backend.create_volume(size=100, zone_name=cloud.location.zone)
    volume.add_tags(tags)
    return str(volume.id)


def volumes(cloud: AwsCloud) -> set[str]:
    return set(cloud.aws.machines.region(cloud.location.region).volumes)


def test_terminated_is_absent(cloud: AwsCloud) -> None:
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle
    cloud.driver().destroy_step(handle)
    assert look(cloud, handle).state is ServerState.STOPPING

    cloud.pass_time(2)

    assert cloud.driver().get(handle) is ABSENT
    assert cloud.driver().find_attempt(cloud_attempt(cloud), cloud.location) is None
    assert cloud.driver().list_owned(cloud.location, OWNER).servers == ()


def cloud_attempt(cloud: AwsCloud) -> str:
    """The attempt of the latest create."""
    request = cloud.aws.calls_to("RunInstances")[-1].parameters
    keys = {value: name for name, value in request.items() if name.endswith(".Key")}
    return str(request[keys[TAG_ATTEMPT].replace(".Key", ".Value")])


def test_a_machine_that_looks_do_not_show_yet_is_terminated_all_the_same(cloud: AwsCloud) -> None:
    cloud.list_late(30)
    handle = cloud.driver().ensure_server(a_spec(cloud)).handle
    assert cloud.driver().get(handle) is ABSENT  # "InvalidInstanceID.NotFound": unknown, not gone

    step = cloud.driver().destroy_step(handle)

    assert handle.server_id in step.remaining
    cloud.pass_time(31)
    destroy(cloud, handle)
    assert cloud.billed() == 0


def test_a_machine_that_only_the_delete_does_not_know_is_not_gone(cloud: AwsCloud) -> None:
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle
    cloud.aws.faults.await_call(
        Refusal(400, "InvalidInstanceID.NotFound"), which=lambda call: call.operation == "TerminateInstances"
    )

    assert handle.server_id in cloud.driver().destroy_step(handle).remaining


def test_what_hangs_on_a_machine_remains_until_the_machine_is_gone(cloud: AwsCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    bare = Handle(server_id=view.handle.server_id, location=view.handle.location)  # as after a create that named none

    step = cloud.driver().destroy_step(bare)

    assert step.remaining == {view.handle.server_id, *(thing.id for thing in view.attachments)}


def test_a_volume_that_outlives_its_machine_is_deleted(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    view = started(cloud, cloud.driver().ensure_server(spec))
    leftover = make_volume(cloud, spec.tags)

    destroy(cloud, view.handle)

    assert leftover not in volumes(cloud)
    assert cloud.billed() == 0


def test_a_volume_that_somebody_attached_stays(cloud: AwsCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    theirs = make_volume(cloud, {"owner": "somebody else"})
    cloud.aws.machines.region("us-east-1").attach_volume(theirs, view.handle.server_id, "/dev/sdf")

    seen = look(cloud, view.handle)
    destroy(cloud, seen.handle)

    assert seen.handle.volume_ids == view.handle.volume_ids
    assert theirs not in {thing.id for thing in seen.attachments}
    assert theirs in volumes(cloud)


def test_a_volume_alone_is_deleted_and_only_then_gone(cloud: AwsCloud) -> None:
    volume_id = make_volume(cloud, a_spec(cloud).tags)
    handle = Handle(server_id="", location=cloud.location, volume_ids=(volume_id,))

    first, second = (cloud.driver().destroy_step(handle) for _ in range(2))

    assert first.remaining == {volume_id}
    assert second.is_complete
    assert volumes(cloud) == set()


def test_a_volume_that_something_else_uses_remains(cloud: AwsCloud) -> None:
    foreign = cloud.add_foreign_server()
    volume_id = make_volume(cloud, a_spec(cloud).tags)
    cloud.aws.machines.region("us-east-1").attach_volume(volume_id, foreign, "/dev/sdf")
    handle = Handle(server_id="", location=cloud.location, volume_ids=(volume_id,))

    steps = [cloud.driver().destroy_step(handle) for _ in range(3)]

    assert {step.remaining for step in steps} == {frozenset({volume_id})}
    assert cloud.has_server(foreign)


def test_an_elastic_address_is_taken_off_and_given_back(cloud: AwsCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    ec2 = cloud.driver().clients.ec2(cloud.location.region)
    allocation = ec2.allocate_address(Domain="vpc")["AllocationId"]
    ec2.associate_address(AllocationId=allocation, InstanceId=view.handle.server_id)

    destroy(cloud, replace(view.handle, ip_ids=(allocation,)))

    assert ec2.describe_addresses()["Addresses"] == []
    assert cloud.billed() == 0


def test_an_interface_that_outlives_its_machine_is_deleted(cloud: AwsCloud) -> None:
    spec = a_spec(cloud)
    view = started(cloud, cloud.driver().ensure_server(spec))
    backend = cloud.aws.machines.region("us-east-1")
    subnet = backend.get_default_subnets()["us-east-1a"]
    interface = backend.create_network_interface(subnet, "172.31.0.99", tags=spec.tags)

    destroy(cloud, view.handle)

    assert interface.id not in backend.enis


@pytest.mark.parametrize("operation", ["DescribeVolumes", "DescribeNetworkInterfaces"])
def test_what_cannot_be_looked_up_is_not_gone(cloud: AwsCloud, operation: str) -> None:
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle
    cloud.driver().destroy_step(handle)
    cloud.pass_time(2)
    cloud.aws.faults.await_call(Refusal(403, "UnauthorizedOperation"), which=lambda call: call.operation == operation)

    with pytest.raises(AuthError):
        cloud.driver().destroy_step(handle)


def test_a_machine_that_is_protected_against_termination_is_an_error_and_no_end(cloud: AwsCloud) -> None:
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle
    cloud.aws.faults.await_call(
        Refusal(400, "OperationNotPermitted"), which=lambda call: call.operation == "TerminateInstances"
    )

    with pytest.raises(Conflict, match="OperationNotPermitted"):
        cloud.driver().destroy_step(handle)


def test_a_machine_that_is_shutting_down_is_not_asked_to_again(cloud: AwsCloud) -> None:
    cloud.hold_deletes()
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle

    steps = [cloud.driver().destroy_step(handle) for _ in range(5)]

    assert all(handle.server_id in step.remaining for step in steps)
    assert len(cloud.aws.calls_to("TerminateInstances")) == 1


def test_a_stopped_machine_can_be_started_and_one_that_is_going_cannot(cloud: AwsCloud) -> None:
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle
    cloud.switch_off(handle.server_id)
    with pytest.raises(Conflict, match="stopping"):
        cloud.driver().start(handle)
    cloud.pass_time(2)
    assert look(cloud, handle).state is ServerState.STOPPED

    started(cloud, look(cloud, handle))
    cloud.driver().destroy_step(handle)

    with pytest.raises(Conflict, match="shutting-down"):
        cloud.driver().start(handle)
