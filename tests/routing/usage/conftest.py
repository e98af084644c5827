from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from django.conf import settings

from routing.discovery.usage_stream import UsageStream


@pytest.fixture
def store() -> Iterator[redis.Redis]:
    """An empty Redis."""
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def stream(store: redis.Redis) -> UsageStream:
    return UsageStream(store)
