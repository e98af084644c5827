"""What a step touches outside the database, injected so that a test or a simulation can stand in for it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import redis
from django.conf import settings
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from fleet import accounts
from fleet.lifecycle import call_rates
from fleet.providers import registry
from fleet.providers.base import AuthError, Provider
from routing.discovery.publisher import Publisher

POLL, LONGEST_POLL = timedelta(seconds=1), timedelta(seconds=15)  # between two looks at what a provider was asked
ORCHESTRATOR = "orchestrator"  # the actor of the moves that nobody asked for by name


def next_look(
    now: datetime, *, since: datetime, share: int = 5, soonest: timedelta = POLL, latest: timedelta = LONGEST_POLL
) -> datetime:
    """When to look again at what began at `since`: after a fifth (or another share) of what it has taken so far.

    So what takes a minute is seen 20 % late at most, and costs the provider's rate of calls a third of what a look each
    second would.
    """
    return now + min(max((now - since) / share, soonest), latest)


@dataclass(frozen=True, slots=True)
class World:
    now: Callable[[], datetime]
    provider: Callable[[str, uuid.UUID | None], Provider]  # by its name, and the account (None: that of the settings)
    publisher: Publisher
    chance: Callable[[], float] = random.random  # from 0 up to 1: spreads out what would come at once


_drivers: dict[tuple[str, uuid.UUID | None], tuple[dict[str, Any], Provider]] = {}


def _driver(name: str, account_id: uuid.UUID | None) -> Provider:
    """Made once, and again when an admin has changed the account's credentials. Raises AuthError without any."""
    try:
        options = accounts.options(name, account_id)
    except accounts.AccountUnusable as error:
        raise AuthError(str(error)) from error
    known = _drivers.get((name, account_id))
    if known is None or known[0] != options:
        driver = registry.build(name, **options)
        known = _drivers[name, account_id] = options, call_rates.metered(driver, name, account_id, _redis())
    return known[1]


@cache
def real_world() -> World:
    """The world of a running system."""
    return World(now=timezone.now, provider=_driver, publisher=Publisher(_redis()))


@cache
def _redis() -> redis.Redis:
    """A silent Redis costs a step a second, never a hang."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=1,
        socket_connect_timeout=1,
        retry=Retry(NoBackoff(), 0),
    )
