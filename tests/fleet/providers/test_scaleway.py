"""Scaleway's driver: the claims of every provider, and some of its own, on the stand-in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fleet.providers.conformance import ProviderConformance
from tests.fleet.providers.scaleway_cloud import ScalewayCloud


@pytest.fixture
def cloud() -> Iterator[ScalewayCloud]:
    cloud = ScalewayCloud()
    with cloud.fake:
        yield cloud


class TestScaleway(ProviderConformance):
    pass
