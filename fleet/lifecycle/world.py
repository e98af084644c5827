"""What a step touches outside the database, injected so that a test or a simulation can stand in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

import redis
from django.conf import settings
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleet.providers import registry
from fleet.providers.base import Provider
from routing.discovery.publisher import Publisher

POLL = timedelta(seconds=1)  # between two looks at what a provider was asked to do
ORCHESTRATOR = "orchestrator"  # the actor of the moves that nobody asked for by name


@dataclass(frozen=True, slots=True)
class World:
    now: Callable[[], datetime]
    provider: Callable[[str], Provider]  # by the provider's name
    publisher: Publisher


@cache
def _driver(name: str) -> Provider:
    return registry.build(name, **settings.PROVIDER_OPTIONS.get(name, {}))


@cache
def real_world() -> World:
    """The world of a running system. A silent Redis costs a step a second, never a hang."""
    client: redis.Redis = redis.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=1,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
    )
    return World(now=timezone.now, provider=_driver, publisher=Publisher(client))
