"""The zones of a region that the account may rent in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.providers.aws.errors import translated
from fleet.providers.base import Location

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client


def of_region(ec2: EC2Client, region: str) -> list[Location]:
    """Availability zones proper: local and wavelength zones have hardly a GPU, and need an opt-in."""
    with translated():
        answer = ec2.describe_availability_zones(
            Filters=[{"Name": "state", "Values": ["available"]}, {"Name": "zone-type", "Values": ["availability-zone"]}]
        )
    return [Location(region, name) for name in sorted(zone["ZoneName"] for zone in answer["AvailabilityZones"])]


def is_first(ec2: EC2Client, location: Location) -> bool:
    return location in of_region(ec2, location.region)[:1]
