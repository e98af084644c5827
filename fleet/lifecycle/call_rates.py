"""How often an account at a provider is asked: one bucket in Redis for every process of every host.

While Redis is away each process keeps to its share of the rate by itself, so that the sum stays what it was as long as
the orchestrator runs on one host.
"""

from __future__ import annotations

import logging
import time
import uuid
from datetime import timedelta
from typing import Any

import redis
from django.conf import settings

from fleet.providers.base import Provider
from fleet.providers.metered import LONGEST_WAIT, Bucket, Metered, Rate, Urgency
from routing.discovery import keys
from routing.discovery.scripts import Script

log = logging.getLogger(__name__)

_AWAY_FOR = 5.0  # seconds for which a Redis that did not answer is not asked again: each question costs a time-out

# As `Bucket.take`, by Redis' own clock. Returns the microseconds to wait; 0: the call is taken into account.
_TAKE = Script.of("""
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local rate, burst, reserve, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local queue = 'turn:' .. ARGV[5]
local known = redis.call('HMGET', KEYS[1], 'tokens', 'at', queue)
local at = tonumber(known[2] or now)
now = math.max(now, at)
local tokens = math.min(burst, tonumber(known[1] or burst) + (now - at) * rate)
local wait = 0
if tokens >= 1 + reserve then
  tokens = tokens - 1
else
  local turn = math.min(math.max(tonumber(known[3] or now), now) + 1 / rate, now + longest)
  redis.call('HSET', KEYS[1], queue, string.format('%.6f', turn))
  wait = math.max(1, math.ceil((turn - now) * 1000000))
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[1], ARGV[6])
return wait
""")


def metered(driver: Provider, provider: str, account_id: uuid.UUID | None, client: redis.Redis) -> Provider:
    """The driver, kept to what PROVIDER_CALLS_PER_SECOND says of the provider; the driver itself if that is nothing."""
    per_second = settings.PROVIDER_CALLS_PER_SECOND.get(provider, 0.0)
    if not per_second:
        return driver
    share = Rate.of(per_second / settings.ORCHESTRATOR_CONCURRENCY)
    return Metered(
        driver,
        SharedBucket(
            Rate.of(per_second),
            client=client,
            key=keys.provider_calls(provider, str(account_id or "settings")),
            alone=Bucket(share, time.monotonic),
        ),
    )


class SharedBucket:
    """A `Meter` that all processes share."""

    def __init__(self, rate: Rate, *, client: redis.Redis, key: str, alone: Bucket) -> None:
        self._rate = rate
        self._redis: Any = client  # redis-py types its answers as "now or awaitable"
        self._key = key
        self._alone = alone
        self._away_until = float("-inf")

    def take(self, urgency: Urgency) -> timedelta | None:
        if self._alone.clock() < self._away_until:
            return self._alone.take(urgency)
        try:
            wait = self._take(urgency)
        except redis.RedisError as error:
            self._note_away(error)
            return self._alone.take(urgency)
        return timedelta(microseconds=wait) if wait else None

    def empty(self) -> None:
        self._alone.empty()
        try:
            if self._alone.clock() >= self._away_until:
                self._redis.hset(self._key, "tokens", 0)
        except redis.RedisError as error:
            self._note_away(error)

    def _take(self, urgency: Urgency) -> int:
        rate = self._rate
        values = [rate.per_second, rate.burst, rate.reserve(urgency), LONGEST_WAIT, urgency.name, keys.CALLS_TTL]
        try:
            return int(self._redis.evalsha(_TAKE.sha, 1, self._key, *values))
        except redis.exceptions.NoScriptError:
            return int(self._redis.eval(_TAKE.text, 1, self._key, *values))

    def _note_away(self, error: redis.RedisError) -> None:
        self._away_until = self._alone.clock() + _AWAY_FOR
        log.warning("Redis is away, this process keeps to its own share of the provider's calls: %s", error)
