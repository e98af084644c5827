"""The orchestrator's tasks: commands that wake a row, and the clocks that beat rings.

A message carries an id and means "look at this row". It may be lost, doubled or late: what is to be done stands in
the row, and CLOCK:WAKE finds every row whose time has come.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import redis
from celery import current_app, shared_task
from django.conf import settings
from kombu.exceptions import OperationalError

from catalog import sync
from fleet.clocks import tick
from fleet.lifecycle import catalogue, due, index, leaks, liveness, refusals, sweep
from fleet.lifecycle.advance import advance
from fleet.lifecycle.catalogue import ZoneOfAccount
from fleet.lifecycle.world import real_world
from fleet.providers.base import Location
from routing.usage import drain, retention

log = logging.getLogger(__name__)

PROVISION = "CMD:PROVISION"
TERMINATE = "CMD:TERMINATE"
RECONCILE = "CMD:RECONCILE"
COLLECT = "CMD:COLLECT"
SYNC_CATALOG = "CMD:SYNC_CATALOG"

# The broker hands out what has a lower number first. Clocks have 0, for behind a thousand commands they would expire
# unheard, and nobody would read a heartbeat. What ends or finds machines goes before what makes new ones.
_PRIORITY = {TERMINATE: 3, COLLECT: 3, RECONCILE: 3, PROVISION: 6, SYNC_CATALOG: 6}
_AHEAD = 50  # messages that wait for each process, while the clock publishes more

_PUBLISH_TIMEOUT = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "max_retries": 0}


def wake(command: str, ids: Iterable[uuid.UUID]) -> None:
    """Publish a command for each row, after it is committed: see `publish`."""
    publish(command, [(str(pk),) for pk in ids])


def publish(command: str, payloads: Iterable[tuple[str, ...]]) -> None:
    """Publish a command for each payload, after what it is about is committed. Never fails, never hangs.

    With the broker away the rows are there all the same, and a clock finds them once it is back.
    """
    transport = {**current_app.conf.broker_transport_options, **_PUBLISH_TIMEOUT}
    try:
        with current_app.connection_for_write(transport_options=transport) as connection:
            for payload in payloads:
                current_app.send_task(command, payload, connection=connection, retry=False, priority=_PRIORITY[command])
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("the broker is away, %s waits for the next tick: %s", command, error)


@shared_task(name=PROVISION)
def provision(instance_id: str) -> None:
    advance(uuid.UUID(instance_id), real_world())


@shared_task(name=TERMINATE)
def terminate(instance_id: str) -> None:
    advance(uuid.UUID(instance_id), real_world())


@shared_task(name=RECONCILE)
def reconcile(sweep_id: str) -> None:
    sweep.sweep_if_due(uuid.UUID(sweep_id), real_world())


@shared_task(name=COLLECT)
def collect(leak_id: str) -> None:
    leaks.collect(uuid.UUID(leak_id), real_world())


@shared_task(name=SYNC_CATALOG)
def sync_catalog(provider: str, region: str = "", zone: str = "", account_id: str = "") -> None:
    """Of a zone; without one, find the provider's zones and send a message for each: one alone may take its time."""
    if zone:
        account = uuid.UUID(account_id) if account_id else None
        catalogue.sync_zone(provider, ZoneOfAccount(Location(region, zone), account), real_world())
        return
    zones, _ = catalogue.find_zones(provider, real_world())
    publish(
        SYNC_CATALOG,
        [(provider, row.location.region, row.location.zone, str(row.account_id or "")) for row in zones],
    )


@shared_task(name="CLOCK:SYNC_CATALOG")
def sync_catalogs_due() -> None:
    with tick("CLOCK:SYNC_CATALOG", period_seconds=settings.SYNC_CATALOG_TICK) as mine:
        if mine:
            every = timedelta(seconds=settings.SYNC_CATALOG_EVERY) if settings.SYNC_CATALOG_EVERY else None
            providers = sync.due(settings.ENABLED_PROVIDERS, every=every, now=real_world().now())
            publish(SYNC_CATALOG, [(provider,) for provider in providers])


@shared_task(name="CLOCK:WAKE")
def wake_due() -> None:
    with tick("CLOCK:WAKE", period_seconds=settings.WAKE_EVERY) as mine:
        if mine:
            instances = due.instances(real_world().now(), most=_room())
            wake(TERMINATE, instances.being_destroyed)
            wake(PROVISION, instances.rising)


def _room() -> int:
    """How many messages more the orchestrator can soon take.

    A row whose message waits for longer than it was put off gets a second one: a queue that is longer than what is
    taken meanwhile grows by itself.
    """
    with current_app.connection_for_read() as connection:
        channel: Any = connection.default_channel  # what it can do is not in the stubs
        waiting = int(channel.queue_declare(current_app.conf.task_default_queue).message_count)
    most: int = _AHEAD * settings.ORCHESTRATOR_CONCURRENCY
    return max(most - waiting, 0)


@shared_task(name="CLOCK:RECONCILE")
def reconcile_due() -> None:
    with tick("CLOCK:RECONCILE", period_seconds=settings.WAKE_EVERY) as mine:
        if mine:
            now = real_world().now()
            wake(COLLECT, due.leaks(now))
            wake(RECONCILE, due.sweeps(now))


@shared_task(name="CLOCK:LIVENESS")
def read_heartbeats() -> None:
    with tick("CLOCK:LIVENESS", period_seconds=settings.WAKE_EVERY) as mine:
        if mine:
            liveness.read_heartbeats(real_world())
            refusals.write_down(real_world())


@shared_task(name="CLOCK:INDEX")
def mend_index() -> None:
    with tick("CLOCK:INDEX", period_seconds=settings.WAKE_EVERY) as mine:
        if mine:
            index.mend(real_world())


@shared_task(name="CLOCK:REBUILD")
def rebuild_index() -> None:
    with tick("CLOCK:REBUILD", period_seconds=settings.REBUILD_INDEX_EVERY) as mine:
        if mine:
            index.rebuild(real_world())


@shared_task(name="CLOCK:USAGE")
def drain_usage() -> None:
    with tick("CLOCK:USAGE", period_seconds=settings.USAGE_DRAIN_EVERY) as mine:
        if mine:
            drain.drain(drain.routers_stream(), now=real_world().now())


@shared_task(name="CLOCK:FORGET_USAGE")
def forget_usage() -> None:
    with tick("CLOCK:FORGET_USAGE", period_seconds=settings.USAGE_FORGET_TICK) as mine:
        if mine:
            retention.forget(before=real_world().now() - timedelta(days=settings.USAGE_KEPT_DAYS))
