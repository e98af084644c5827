"""The AWS driver on the stand-in: what every driver must do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.fleet.providers.conformance import ProviderConformance


@pytest.fixture
def cloud() -> Iterator[AwsCloud]:
    with a_new_cloud() as cloud:
        yield cloud


class TestAws(ProviderConformance):
    pass
