"""Client keys in Redis: the router knows nobody else. What is missed here, the next rebuild of the index mends."""

from __future__ import annotations

import logging
from collections.abc import Callable

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing.discovery.publisher import Publisher
from routing.discovery.records import ClientKey
from routing.models import ApiKey
from routing.models.api_key import Scope

logger = logging.getLogger(__name__)

_PATIENCE = 0.4  # seconds, to connect and again for the answer: whoever makes a key must not wait for Redis


def client_key(row: ApiKey) -> ClientKey:
    return ClientKey(
        sha256=row.sha256,
        key_id=str(row.pk),
        name=row.name,
        expires_at=row.expires_at.timestamp() if row.expires_at else 0.0,
    )


def publish(row: ApiKey) -> None:
    """Let the router know a new key, if it may call models. Never raises because Redis is away."""
    if Scope.INFERENCE in row.scopes:
        _best_effort(lambda publisher: publisher.publish_key(client_key(row)))


def withdraw(row: ApiKey) -> None:
    """Let the router forget a key. Never raises because Redis is away."""
    _best_effort(lambda publisher: publisher.revoke_key(row.sha256))


def _best_effort(write: Callable[[Publisher], None]) -> None:
    connection = redis.Redis.from_url(
        settings.REDIS_URL,
        decode_responses=True,
        socket_timeout=_PATIENCE,
        socket_connect_timeout=_PATIENCE,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        with connection:
            write(Publisher(connection))
    except redis.RedisError as error:
        logger.warning("Redis is away; the rebuild of the index will bring the key: %s", type(error).__name__)
