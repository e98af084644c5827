"""The discovery index, as the control plane writes it: a projection that can be rebuilt at any time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import redis
from django.conf import settings

from catalog.models import LlmModel
from fleet.lifecycle.world import World
from fleet.models import Instance
from fleet.states import WITH_WORKER
from routing import addresses, key_index
from routing.discovery.records import Endpoint, Routing, ServedModel
from routing.models import ApiKey
from routing.money import micros
from routing.usage import budgets

log = logging.getLogger(__name__)


def endpoint(instance: Instance) -> Endpoint:
    model = instance.deployment.model
    return Endpoint(
        instance_id=str(instance.pk),
        model_id=model.model_id,
        ip=addresses.canonical(instance.ip_address) if instance.ip_address else "",
        port=instance.port,
        status=instance.status,
        api_key=instance.api_key or "",
        agent_token_sha256=instance.agent_token_sha256,
        capacity=model.max_concurrency or 0,
        weight=float(instance.instance_type.relative_speed),
    )


def publish(instance: Instance, world: World) -> None:
    """Tell the routers. Redis away is no reason to stop: the index is rebuilt when it is back."""
    try:
        publish_or_raise(instance, world)
    except redis.RedisError as error:
        log.warning("%s: not published: %s", instance, error)


def publish_or_raise(instance: Instance, world: World) -> None:
    if instance.status in WITH_WORKER and instance.ip_address:
        # The row may have learned the agent's token since this object was read.
        instance.refresh_from_db(fields=["agent_token_sha256"])
        world.publisher.publish(endpoint(instance))


def withdraw(instance: Instance, world: World) -> None:
    try:
        world.publisher.withdraw(str(instance.pk), instance.deployment.model.model_id)
    except redis.RedisError as error:
        log.warning("%s: not withdrawn: %s", instance, error)


def mend(world: World) -> bool:
    """Rebuild if Redis has lost the index. Returns whether it had."""
    if world.publisher.epoch() is not None:
        return False
    log.warning("the discovery index is gone: rebuilding it")
    rebuild(world)
    return True


def rebuild(world: World) -> None:
    """Make Redis equal to Postgres. Raises redis.RedisError."""
    now = world.now()
    as_of = world.publisher.clock()
    live = list(
        Instance.objects.filter(status__in=sorted(WITH_WORKER), ip_address__isnull=False).select_related(
            "deployment__model", "instance_type"
        )
    )
    # Before the keys are there, so that none is good for a moment that has used its budget up.
    world.publisher.seed_spending(budgets.spent(now=now))
    fresh_since = now - timedelta(seconds=settings.HEARTBEAT_STALE_AFTER)
    world.publisher.rebuild(
        endpoints=[endpoint(instance) for instance in live],
        models=list(_models()),
        keys=[key_index.client_key(key) for key in ApiKey.objects.for_the_router(now)],
        heartbeats={
            str(instance.pk): instance.last_heartbeat_at.timestamp()
            for instance in live
            if instance.worker_ready and instance.last_heartbeat_at and instance.last_heartbeat_at > fresh_since
        },
        now=now,
        as_of=as_of,
    )


def _models() -> Iterator[ServedModel]:
    """A fallback that is no longer in the catalogue, or not active, is left out."""
    rows = list(LlmModel.objects.filter(is_active=True))
    active = {row.model_id for row in rows}
    for row in rows:
        yield ServedModel(
            model_id=row.model_id,
            name=row.name,
            context_length=row.context_length,
            created=int(row.updated_at.timestamp()),
            aliases=tuple(row.aliases),
            fallbacks=tuple(name for name in row.fallbacks if name in active),
            routing=Routing(row.routing),
            first_byte_timeout=float(row.first_byte_timeout or 0),
            input_price=micros(row.input_price_per_million),
            output_price=micros(row.output_price_per_million),
        )
