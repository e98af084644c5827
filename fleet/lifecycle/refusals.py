"""Who spoke for an instance without being it: written down, with an alarm the first time.

The routers refuse such heartbeats, and leave a trace in Redis (see routing.discovery.scripts). Here it is copied to
Postgres, where an operator sees it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from django.db.models import F

from fleet.lifecycle.world import World
from fleet.models import HeartbeatRefusal, Instance
from routing.discovery.records import Refusal

log = logging.getLogger(__name__)

BOOTSTRAP = "bootstrap"  # beside the reasons of routing.discovery.records.Refusal

_KEPT_PER_INSTANCE = 100  # rows: whoever has an instance's id and many addresses must not fill the table


def write_down(world: World) -> None:
    """What the routers have refused since the last look. Raises redis.RedisError.

    If we are stopped before it is forgotten, the same refusals come again, and change nothing.
    """
    refusals = world.publisher.take_refusals()
    if not refusals:
        return
    known = Instance.objects.in_bulk(list(_ids(refusals)))
    for refusal in refusals:
        instance_id = _id(refusal)
        if instance_id in known:
            _write_down(known[instance_id], refusal)
    world.publisher.forget_refusals(refusals)


def note(
    instance: Instance, *, reason: str, address: str, first_at: datetime, last_at: datetime, times: int = 1
) -> None:
    """`address` is canonical. What is not later than the row's last instant is counted in it already."""
    rows = HeartbeatRefusal.objects.filter(instance=instance, reason=reason, address=address)
    if rows.filter(last_at__lt=last_at).update(times=F("times") + times, last_at=last_at) or rows.exists():
        return
    room = _KEPT_PER_INSTANCE - instance.heartbeat_refusals.count()
    if room <= 0:
        return
    _, is_new = rows.get_or_create(
        instance=instance,
        reason=reason,
        address=address,
        defaults={"first_at": first_at, "last_at": last_at, "times": times},
    )
    if is_new:
        log.error("ALARM %s: refused %s (%s)", instance, _MEANINGS.get(reason, reason), address)
    if is_new and room == 1:
        log.error("ALARM %s: refused from so many addresses that no further one is written down", instance)


_MEANINGS = {
    "token": "a heartbeat with a token that is not its own",
    "address": "a heartbeat with its token, from an address that is not its own",
    BOOTSTRAP: "its bootstrap token, from an address that is not its own",
}


def _write_down(instance: Instance, refusal: Refusal) -> None:
    note(
        instance,
        reason=refusal.reason,
        address=refusal.address,
        first_at=datetime.fromtimestamp(refusal.first_at, UTC),
        last_at=datetime.fromtimestamp(refusal.last_at, UTC),
        times=refusal.times,
    )


def _ids(refusals: Iterable[Refusal]) -> Iterable[uuid.UUID]:
    return {instance_id for instance_id in map(_id, refusals) if instance_id is not None}


def _id(refusal: Refusal) -> uuid.UUID | None:
    try:
        return uuid.UUID(refusal.instance_id)
    except ValueError:
        return None
