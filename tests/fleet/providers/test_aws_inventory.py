"""Listings of what is ours at AWS, and the bill that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from fleet.providers.base import (
    TAG_OWNER,
    AuthError,
    Location,
    Resource,
    ResourceKind,
    ServerView,
    Throttled,
)
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Refusal
from tests.fleet.providers.conformance import OWNER, a_spec, destroy, look, started

ZONE_B = Location("us-east-1", "us-east-1b")


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


def allocate(cloud: AwsCloud, owner: str = OWNER) -> str:
    address = cloud.aws.machines.region(cloud.location.region).allocate_address("vpc", tags={TAG_OWNER: owner})
    return str(address.allocation_id)


def ips(cloud: AwsCloud, location: Location) -> list[tuple[str, str]]:
    return [(one.id, one.server_id) for one in cloud.driver().list_owned(location, OWNER).ips]


def test_a_volume_that_hangs_on_nothing_is_listed(cloud: AwsCloud) -> None:
    backend = cloud.aws.machines.region("us-east-1")
    volume = backend.create_volume(size=100, zone_name="us-east-1a")
    tags = a_spec(cloud).tags
    volume.add_tags(tags)

    (listed,) = cloud.driver().list_owned(cloud.location, OWNER).volumes

    assert (listed.id, listed.kind, listed.server_id, listed.tags) == (volume.id, ResourceKind.VOLUME, "", tags)
    assert cloud.driver().list_owned(ZONE_B, OWNER).volumes == ()


def test_an_idle_address_is_listed_once_in_the_first_zone_of_its_region(cloud: AwsCloud) -> None:
    allocation = allocate(cloud)
    allocate(cloud, owner="another")

    assert ips(cloud, cloud.location) == [(allocation, "")]
    assert ips(cloud, ZONE_B) == []
    assert ips(cloud, cloud.other_location) == []


def test_an_address_in_use_is_listed_in_the_zone_of_its_server(cloud: AwsCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud, location=ZONE_B)))
    allocation = allocate(cloud)
    ec2 = cloud.driver().clients.ec2("us-east-1")
    ec2.associate_address(AllocationId=allocation, InstanceId=view.handle.server_id)

    assert ips(cloud, ZONE_B) == [(allocation, view.handle.server_id)]
    assert ips(cloud, cloud.location) == []


@pytest.mark.parametrize("operation", ["DescribeVolumes", "DescribeAddresses"])
def test_a_listing_without_one_of_its_parts_is_not_complete(cloud: AwsCloud, operation: str) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.aws.faults.await_call(Refusal(403, "UnauthorizedOperation"), which=lambda call: call.operation == operation)

    owned = cloud.driver().list_owned(cloud.location, OWNER)

    assert [server.handle.server_id for server in owned.servers] == [view.handle.server_id]
    assert not owned.complete


def test_a_listing_of_which_nothing_came_is_an_error(cloud: AwsCloud) -> None:
    cloud.aws.faults.await_call(Refusal(403, "UnauthorizedOperation"))

    with pytest.raises(AuthError):
        cloud.driver().list_owned(cloud.location, OWNER)


def test_a_look_for_an_attempt_asks_for_every_page(cloud: AwsCloud) -> None:
    cloud.aws.faults.await_call(Refusal(503, "RequestLimitExceeded"), which=lambda call: "NextToken" in call.parameters)
    cloud.aws.listings_end_half_way = True

    with pytest.raises(Throttled):
        cloud.driver().find_attempt("an attempt", cloud.location)


def test_a_machine_of_ours_that_is_going_is_still_listed(cloud: AwsCloud) -> None:
    handle = started(cloud, cloud.driver().ensure_server(a_spec(cloud))).handle
    cloud.driver().destroy_step(handle)

    assert [one.handle for one in cloud.driver().list_owned(cloud.location, OWNER).servers] == [handle]


def test_what_the_driver_tells_adds_up_to_the_bill(cloud: AwsCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(replace(a_spec(cloud), root_volume_gb=200)))
    seen = look(cloud, view.handle)
    cloud.pass_time(5000)
    destroy(cloud, view.handle)

    for thing in seen.attachments:
        assert _told(thing) == _billed(cloud, thing.id)
    assert (seen.created_at, Decimal("0.8048")) == _billed(cloud, view.handle.server_id)
    assert {line.kind for line in cloud.aws.bill.lines} == {"server", "volume", "ip"}
    assert all(line.until is not None for line in cloud.aws.bill.lines)


def test_a_create_tells_as_much_as_a_later_look(cloud: AwsCloud) -> None:
    made = cloud.driver().ensure_server(a_spec(cloud))

    assert _attachments(made) == _attachments(look(cloud, made.handle))


def _attachments(view: ServerView) -> set[tuple[str, object, Decimal]]:
    return {(thing.id, *_told(thing)) for thing in view.attachments}


def _told(thing: Resource) -> tuple[object, Decimal]:
    return thing.created_at, thing.price_per_hour


def _billed(cloud: AwsCloud, identity: str) -> tuple[object, Decimal]:
    (line,) = [line for line in cloud.aws.bill.lines if line.id == identity]
    return line.since, line.price_per_hour.quantize(Decimal("0.000001"))
