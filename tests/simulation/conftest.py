"""The stage on which every schedule plays: a real database with a small catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, Zone
from tests.simulation import ids
from tests.simulation.schedule import TROUPE


@pytest.fixture
def theatre(transactional_db: None, settings: Any) -> Iterator[None]:
    """Actors commit for real, each on a connection of its own. Places are swept seldom: it costs most of the time."""
    settings.RECONCILE_EVERY = 180
    ids.plug()
    _build()
    yield
    TROUPE.rest()


def _build() -> None:
    provider = Provider.objects.create(name="mock")
    region = Region.objects.create(provider=provider, name="eu")
    zones = [Zone.objects.create(region=region, name=f"eu-{number}") for number in (1, 2)]
    for name, vram, price in (("SMALL", 24, "1"), ("LARGE", 80, "3")):
        kind = InstanceType.objects.create(
            provider=provider, name=name, gpu_name=name, gpu_count=1, vram_per_gpu_gb=vram
        )
        for zone in zones:
            InstanceAvailability.objects.create(
                instance_type=kind, zone=zone, price_per_hour=Decimal(price), currency="EUR", stock="available"
            )
    LlmModel.objects.create(
        name="Small", model_id="acme/small", required_vram_gb=4, context_length=8192, parameters=1_000_000_000
    )
