"""The orchestrator's tasks: commands that wake an instance, and the clocks that beat rings.

A message carries an id and means "look at this row". It may be lost, doubled or late: what is to be done stands in
the row, and CLOCK:WAKE finds every row whose time has come.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import timedelta

import redis
from celery import current_app, shared_task
from django.conf import settings
from django.utils import timezone
from kombu.exceptions import OperationalError

from fleet.clocks import tick
from fleet.lifecycle import index, liveness
from fleet.lifecycle.advance import advance
from fleet.lifecycle.world import real_world
from fleet.models import Instance
from fleet.states import BEING_DESTROYED

log = logging.getLogger(__name__)

PROVISION = "CMD:PROVISION"
TERMINATE = "CMD:TERMINATE"

_WAKE_BATCH = 500
_WAKE_AGAIN = timedelta(seconds=10)  # a wake-up that came to nothing is repeated after this
_PUBLISH_TIMEOUT = {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "max_retries": 0}


def wake(command: str, instance_ids: Iterable[uuid.UUID]) -> None:
    """Publish a command for each instance, after its row is committed. Never fails, never hangs.

    With the broker away the rows are there all the same, and CLOCK:WAKE finds them once it is back.
    """
    transport = {**current_app.conf.broker_transport_options, **_PUBLISH_TIMEOUT}
    try:
        with current_app.connection_for_write(transport_options=transport) as connection:
            for instance_id in instance_ids:
                current_app.send_task(command, (str(instance_id),), connection=connection, retry=False)
    except (OperationalError, redis.RedisError, OSError) as error:
        log.warning("the broker is away, %s waits for the next tick: %s", command, error)


@shared_task(name=PROVISION)
def provision(instance_id: str) -> None:
    advance(uuid.UUID(instance_id), real_world())


@shared_task(name=TERMINATE)
def terminate(instance_id: str) -> None:
    advance(uuid.UUID(instance_id), real_world())


@shared_task(name="CLOCK:WAKE")
def wake_due() -> None:
    with tick("CLOCK:WAKE", period_seconds=settings.WAKE_EVERY) as mine:
        if mine:
            _wake_due()


@shared_task(name="CLOCK:LIVENESS")
def read_heartbeats() -> None:
    with tick("CLOCK:LIVENESS", period_seconds=settings.WAKE_EVERY) as mine:
        if mine:
            liveness.read_heartbeats(real_world())


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


def _wake_due() -> None:
    now = timezone.now()
    due = list(Instance.objects.due(now).order_by("next_attempt_at").values_list("pk", "status")[:_WAKE_BATCH])
    # Put off before publishing: a tick that comes before the work is done does not pile up a second message.
    Instance.objects.due(now).filter(pk__in=[pk for pk, _ in due]).update(next_attempt_at=now + _WAKE_AGAIN)
    wake(TERMINATE, [pk for pk, status in due if status in BEING_DESTROYED])
    wake(PROVISION, [pk for pk, status in due if status not in BEING_DESTROYED])
