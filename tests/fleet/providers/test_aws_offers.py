"""What AWS has on offer, and what it costs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import catalog
from fleet.providers.aws import prices
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.base import Location, MachineOffer, ResourceKind, Stock
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Mishap, Refusal
from tests.fleet.providers.conformance import a_spec, look

IN_THE_FILE: list[dict[str, Any]] = json.loads((Path(catalog.__file__).parent / "data" / "aws.json").read_text())[
    "instance_types"
]


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


def offers(cloud: AwsCloud, zone: str = "us-east-1a") -> dict[str, MachineOffer]:
    return {offer.instance_type: offer for offer in cloud.driver().list_offers(Location(zone[:-1], zone))}


def test_a_type_has_the_figures_of_the_catalogue(cloud: AwsCloud) -> None:
    driver = cloud.driver()
    zones = ("us-east-1a", "us-east-1b", "us-east-1c", "us-west-2a", "us-west-2b", "us-west-2c")
    listed = {offer.instance_type: offer for zone in zones for offer in driver.list_offers(Location(zone[:-1], zone))}

    figures = {
        name: (offer.gpu_name, offer.gpu_count, offer.vram_per_gpu_gb)
        for name, offer in listed.items()
        if name in {entry["name"] for entry in IN_THE_FILE}
    }

    assert figures == {
        entry["name"]: (entry["gpu_name"], entry["gpu_count"], entry["vram_per_gpu_gb"]) for entry in IN_THE_FILE
    }


def test_it_lists_only_what_a_model_can_be_served_from(cloud: AwsCloud) -> None:
    names = set(offers(cloud))

    assert {"g6.xlarge", "g5.xlarge"} <= names
    assert not [name for name in names if name.startswith(("g6f.", "gr6f."))]  # parts of a GPU
    assert not [name for name in names if name.startswith("g5g.")]  # ARM: not the image's architecture
    assert not [name for name in names if name.startswith(("g4ad.", "m5.", "inf2.", "trn1."))]  # no NVIDIA GPU


def test_a_zone_has_its_own_types(cloud: AwsCloud) -> None:
    assert "p6-b200.48xlarge" in offers(cloud, "us-east-1c")
    assert "p6-b200.48xlarge" not in offers(cloud, "us-east-1a")


def test_a_price_is_the_one_on_demand_in_the_region(cloud: AwsCloud) -> None:
    listed = offers(cloud)

    assert listed["g6.xlarge"].price_per_hour == Decimal("0.8048")
    assert listed["g6.xlarge"].currency == "USD"
    assert listed["g6.12xlarge"].price_per_hour is None  # the price list has none for it


def test_a_spot_price_is_told_beside_it(cloud: AwsCloud) -> None:
    assert offers(cloud)["g6.xlarge"].spot_price_per_hour == Decimal("0.00001")


def test_the_stock_is_not_known(cloud: AwsCloud) -> None:
    assert {offer.stock for offer in offers(cloud).values()} == {Stock.UNKNOWN}


@pytest.mark.parametrize(
    ("operation", "field"),
    [("GetProducts", "price_per_hour"), ("DescribeSpotPriceHistory", "spot_price_per_hour")],
)
@pytest.mark.parametrize("trouble", [Refusal(400, "AccessDeniedException"), Mishap.REFUSED])
def test_a_price_that_cannot_be_asked_for_is_none_and_is_logged(
    cloud: AwsCloud, operation: str, field: str, trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cloud.aws.faults.await_call(trouble, which=lambda call: call.operation == operation)

    with caplog.at_level(logging.WARNING):
        offer = offers(cloud)["g6.xlarge"]

    assert getattr(offer, field) is None
    assert "prices" in caplog.text


def test_a_price_list_that_cannot_be_reached_is_asked_once_and_not_for_each_type(cloud: AwsCloud) -> None:
    cloud.aws.faults.await_call(
        Refusal(400, "AccessDeniedException"), which=lambda call: call.operation == "GetProducts"
    )

    offers(cloud)

    assert len(cloud.aws.calls_to("GetProducts")) == 1


def test_a_price_is_asked_for_once_a_day(cloud: AwsCloud) -> None:
    now = datetime(2026, 10, 1, tzinfo=UTC)
    driver = AwsProvider(cloud.driver().clients, regions=("us-east-1",), image="", subnets={}, clock=lambda: now)
    asked = []

    for wait in (timedelta(0), timedelta(hours=23), timedelta(hours=2)):
        now += wait
        driver.list_offers(cloud.location)
        asked.append(len(cloud.aws.calls_to("GetProducts")))

    assert asked[0] == asked[1] < asked[2] == 2 * asked[0]


def test_a_zone_of_the_account_is_one_that_is_available_and_a_region_of_ours(cloud: AwsCloud) -> None:
    locations = cloud.driver().locations()

    assert Location("us-east-1", "us-east-1a") in locations
    assert {location.region for location in locations} == {"us-east-1", "us-west-2"}


def test_what_hangs_on_a_machine_has_a_price(cloud: AwsCloud) -> None:
    view = look(cloud, cloud.driver().ensure_server(a_spec(cloud)).handle)

    assert {(thing.kind, thing.price_per_hour, thing.currency, thing.server_id) for thing in view.attachments} == {
        (ResourceKind.VOLUME, prices.volume_per_hour(80), "USD", view.handle.server_id),
        (ResourceKind.IP, Decimal("0.005"), "USD", view.handle.server_id),
    }
    assert prices.volume_per_hour(80) == Decimal("0.008767")  # 80 GB at 0.08 USD a month of 730 hours
