"""Client keys in Redis: the router knows nobody else. What is missed here, the next rebuild of the index mends."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

import redis
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing.discovery.publisher import Publisher
from routing.discovery.records import ClientKey
from routing.models import ApiKey
from routing.money import micros
from routing.usage import budgets

logger = logging.getLogger(__name__)

_PATIENCE = 0.4  # seconds, to connect and again for the answer: whoever makes a key must not wait for Redis


def client_key(row: ApiKey) -> ClientKey:
    return ClientKey(
        sha256=row.sha256,
        key_id=str(row.pk),
        name=row.name,
        expires_at=row.expires_at.timestamp() if row.expires_at else 0.0,
        models=tuple(row.allowed_models),
        requests_per_minute=row.requests_per_minute or 0,
        tokens_per_minute=row.tokens_per_minute or 0,
        concurrency=row.concurrency or 0,
        monthly_tokens=row.monthly_token_budget or 0,
        monthly_micros=micros(row.monthly_budget),
    )


def publish(*rows: ApiKey) -> None:
    """Let the router know what these keys' rows say by now: one with which no model may be called any more, it forgets.

    To be called after every change, once that is committed. Never raises because Redis is away.
    """
    _best_effort(lambda publisher: _publish([row.pk for row in rows], publisher, now=timezone.now()))


def _publish(ids: Sequence[uuid.UUID], publisher: Publisher, *, now: datetime) -> None:
    # The rows stay locked until Redis has heard: of two changes at once, the router must not hear the first one last.
    with transaction.atomic():
        rows = list(ApiKey.objects.select_for_update().filter(pk__in=ids).order_by("pk"))
        good = set(ApiKey.objects.for_the_router(now).filter(pk__in=ids).values_list("pk", flat=True))
        for row in rows:
            if row.pk in good:
                publisher.publish_key(client_key(row))
                # Without a budget the routers have not counted what it spent before it got this one.
                publisher.seed_spending(budgets.spent_by([row.pk] if row.has_budget else [], now=now))
            else:
                publisher.revoke_key(row.sha256)


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
