"""Read what the workers said of themselves: the ready are routed, the silent are looked after, the lost given up.

A heartbeat reaches the router and lies in Redis. Here it is copied to Postgres, and judged. Silence stops routing
at once (the router sees to that) but proves nothing by itself: the provider is asked first, and a wave of silence
is our own fault until shown otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from fleet.lifecycle import index, interruption
from fleet.lifecycle.failing import fail
from fleet.lifecycle.world import ORCHESTRATOR, World
from fleet.models import Instance
from fleet.states import WITH_WORKER, Status
from routing.discovery.records import Pulse

log = logging.getLogger(__name__)

_HEARD = """
    UPDATE "instances" SET last_heartbeat_at = heard.at, worker_ready = heard.ready, worker_detail = heard.detail,
                           unready_since = heard.unready_since
    FROM unnest(%s::uuid[], %s::timestamptz[], %s::boolean[], %s::text[], %s::timestamptz[])
         AS heard(id, at, ready, detail, unready_since)
    WHERE "instances".id = heard.id"""


def read_heartbeats(world: World) -> None:
    """One look at every worker. Raises redis.RedisError: without Redis nothing is known, and nobody is judged."""
    workers = list(
        Instance.objects.filter(status__in=sorted(WITH_WORKER), ip_address__isnull=False).select_related(
            "deployment__model"
        )
    )
    pulses = world.publisher.pulses([str(worker.pk) for worker in workers])
    heard = _write_down(workers, pulses)
    now = world.now()
    for worker in heard:
        if worker.status == Status.BOOTING and worker.worker_ready and not _silent(worker, now, _stale()):
            _ready(worker, world)
    ready = [worker for worker in workers if worker.status == Status.READY]
    _look_after_the_silent(ready, world)
    _look_after_the_unready(ready, world)
    for worker in workers:
        pulse = pulses.get(str(worker.pk))
        if pulse is not None and pulse.interruption and worker.interrupted_at is None:
            interruption.heed(worker, pulse, world)


def _write_down(workers: Sequence[Instance], pulses: Mapping[str, Pulse]) -> list[Instance]:
    """Copy what is news to Postgres; returns the workers that have been heard since the last look."""
    heard = []
    for worker in workers:
        pulse = pulses.get(str(worker.pk))
        if pulse is None or not pulse.last_heartbeat:
            continue
        at = datetime.fromtimestamp(pulse.last_heartbeat, UTC)
        if worker.last_heartbeat_at is not None and at <= worker.last_heartbeat_at:
            continue
        worker.unready_since = None if pulse.ready else _unready_since(worker, at)
        worker.last_heartbeat_at, worker.worker_ready, worker.worker_detail = at, pulse.ready, pulse.detail
        heard.append(worker)
    _update(heard)
    return heard


def _update(heard: Sequence[Instance]) -> None:
    """In one statement whose text does not grow: a CASE with an arm for each of 1,000 workers costs half a second."""
    if not heard:
        return
    columns: list[Any] = [
        [worker.pk for worker in heard],
        [worker.last_heartbeat_at for worker in heard],
        [worker.worker_ready for worker in heard],
        [worker.worker_detail for worker in heard],
        [worker.unready_since for worker in heard],
    ]
    with connection.cursor() as cursor:
        cursor.execute(_HEARD, columns)


def _unready_since(worker: Instance, at: datetime) -> datetime:
    """A gap in what was heard starts the count anew: nobody knows how the engine was meanwhile."""
    if worker.unready_since is None or _silent(worker, at, _stale()):
        return at
    return worker.unready_since


def _ready(worker: Instance, world: World) -> None:
    with transaction.atomic():
        moved = worker.move(Status.READY, reason="its worker is healthy", actor=ORCHESTRATOR, at=world.now())
        # Nothing more is due, but for an end that was asked for since the worker was read: it has set its time. One
        # that is asked for from here on waits for this transaction, and sets it then.
        Instance.objects.filter(pk=worker.pk, status=Status.READY, termination_requested_at__isnull=True).update(
            next_attempt_at=None
        )
    if moved:
        index.publish(worker, world)


def _look_after_the_silent(ready: Sequence[Instance], world: World) -> None:
    now = world.now()
    silent = [worker for worker in ready if _silent(worker, now, _stale())]
    if not silent:
        return
    # Its provider may know that the machine is dead: that needs no waiting (see boot.check_ready).
    Instance.objects.filter(
        pk__in=[worker.pk for worker in silent], status=Status.READY, next_attempt_at__isnull=True
    ).update(next_attempt_at=now)
    lost = [worker for worker in silent if _silent(worker, now, _lost())]
    if not lost:
        return
    doubt = _why_not_to_believe(len(lost), len(ready), world)
    if doubt:
        log.error("ALARM %d of %d workers are silent, none is given up: %s", len(lost), len(ready), doubt)
        return
    for worker in lost:
        _give_up(worker, f"no heartbeat since {worker.last_heartbeat_at:%H:%M:%S} UTC", world)


def _look_after_the_unready(ready: Sequence[Instance], world: World) -> None:
    """An engine that does not come back serves nobody, and its machine costs as much as one that does."""
    limit = timedelta(seconds=settings.UNREADY_DEADLINE)
    for worker in ready:
        # Up to its last word and not up to now: silence is judged elsewhere, and may be our own fault.
        if (
            worker.unready_since
            and worker.last_heartbeat_at
            and worker.last_heartbeat_at - worker.unready_since > limit
        ):
            _give_up(worker, f"its engine has not been healthy for {limit}: {worker.worker_detail}", world)


def _give_up(worker: Instance, reason: str, world: World) -> None:
    held = Instance.lease(worker.pk, now=world.now(), seconds=settings.LEASE_SECONDS)
    if held is None:
        return
    # Whoever has been slow since the look may hear it again by now.
    if held.status == Status.READY and not _heard_since(worker, world):
        fail(held, world, reason)
    held.release(due=held.next_attempt_at)


def _heard_since(worker: Instance, world: World) -> bool:
    """Whether there is news of it that the judgement did not know, and the next look is to judge anew."""
    pulse = world.publisher.pulses([str(worker.pk)]).get(str(worker.pk))
    known = worker.last_heartbeat_at.timestamp() if worker.last_heartbeat_at else 0.0
    return pulse is not None and pulse.last_heartbeat > known


def _why_not_to_believe(lost: int, ready: int, world: World) -> str:
    """Law 6: a wave of silence is our own fault first. In words, or empty if the silence is believed."""
    now = world.now()
    routers_since = world.publisher.routers_alive_since()
    if routers_since is None:
        return "no router is alive to hear a heartbeat"
    if routers_since > now - _lost():
        return "the router has not been up for long enough"
    epoch = world.publisher.epoch()
    if epoch is None or epoch > now - _lost():
        return "the discovery index was rebuilt a moment ago"
    if lost >= settings.SILENCE_WAVE_COUNT and lost >= ready * settings.SILENCE_WAVE_SHARE:
        return "so many at once is more likely our own fault"
    return ""


def _silent(worker: Instance, now: datetime, limit: timedelta) -> bool:
    return worker.last_heartbeat_at is None or worker.last_heartbeat_at < now - limit


def _stale() -> timedelta:
    return timedelta(seconds=settings.HEARTBEAT_STALE_AFTER)


def _lost() -> timedelta:
    return timedelta(seconds=settings.HEARTBEAT_LOST_AFTER)
