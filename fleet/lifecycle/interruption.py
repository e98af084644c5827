"""A provider announces that it takes a spot machine back: what runs there ends until then, and another is started."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from django.db import transaction

from fleet.lifecycle import replacement
from fleet.lifecycle.attempts import live_attempt
from fleet.lifecycle.world import ORCHESTRATOR, World
from fleet.models import Instance
from fleet.states import WITH_WORKER
from routing.discovery.records import Pulse

log = logging.getLogger(__name__)

_NOTICE = timedelta(minutes=2)  # what AWS gives at most


def heed(worker: Instance, pulse: Pulse, world: World) -> None:
    """Record the intent to drain and the replacement, in one transaction; once, however often the notice is heard.

    An end that somebody had asked for before stays theirs, and is not replaced, but it drains no longer than this.
    """
    now, at = world.now(), _taken_back_at(pulse)
    with transaction.atomic():
        instance = Instance.objects.select_for_update().get(pk=worker.pk)
        if instance.interrupted_at is not None or instance.status not in WITH_WORKER:
            return
        attempt = live_attempt(instance)
        if attempt is None or not attempt.spot:
            log.warning("%s says that its machine is taken back, which is no spot machine", instance)
            return
        replacement.start(instance, now=now)
        _end(instance, at, now=now)
    log.warning("%s: the provider takes its machine back at %s", instance, at)


def _end(instance: Instance, at: datetime, *, now: datetime) -> None:
    instance.interrupted_at, instance.next_attempt_at = at, now
    if instance.termination_requested_at is None:
        instance.termination_requested_at = now
        instance.termination_reason = f"the provider takes its spot machine back at {at:%H:%M:%S} UTC"
        instance.termination_actor = ORCHESTRATOR
        instance.drain = True
    instance.save(
        update_fields=[
            "interrupted_at",
            "next_attempt_at",
            "termination_requested_at",
            "termination_reason",
            "termination_actor",
            "drain",
        ]
    )


def _taken_back_at(pulse: Pulse) -> datetime:
    """The announced instant. A worker's word: one that can't be read, or is further off than a notice reaches, counts
    from when it was heard."""
    heard = datetime.fromtimestamp(pulse.last_heartbeat, UTC)
    latest = heard + _NOTICE
    try:
        at = datetime.fromisoformat(pulse.interruption)
    except ValueError:
        return latest
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return min(max(at, heard), latest).astimezone(UTC)
