"""The orchestrator's Celery application. A message is a wake-up: it may be lost, doubled or late (docs/reliability)."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inventiv.settings")

from django.conf import settings

from inventiv import configuration

QUEUE = "orchestrator_events"


def broker_url(redis_url: str) -> str:
    """Celery's spelling of a Redis URL: a Unix socket is `redis+socket://`, and `db` is `virtual_host` there."""
    if not redis_url.startswith("unix://"):
        return redis_url
    return redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)


def clock(task: str, every: float) -> dict[str, Any]:
    # A tick that waited longer than its period has been overtaken by the next one.
    return {"task": task, "schedule": every, "options": {"queue": QUEUE, "expires": max(every, 1.0)}}


app = Celery("inventiv")
app.conf.update(
    broker_url=broker_url(settings.REDIS_URL),
    broker_transport_options={
        "socket_timeout": 5,
        "socket_connect_timeout": 1,
        "visibility_timeout": 3600,
        "max_retries": 1,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    task_default_queue=QUEUE,
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_publish_retry=False,
    task_time_limit=settings.STEP_TIME_LIMIT,
    task_soft_time_limit=max(settings.STEP_TIME_LIMIT - 5, 1),
    worker_prefetch_multiplier=1,
    worker_concurrency=settings.ORCHESTRATOR_CONCURRENCY,
    worker_max_tasks_per_child=10_000,
    worker_soft_shutdown_timeout=5,
    worker_hijack_root_logger=False,
    beat_schedule_filename=str(settings.INVENTIV_HOME / "beat-schedule"),
    beat_schedule={
        "wake unmet intents": clock("CLOCK:WAKE", settings.WAKE_EVERY),
        "wake sweeps and leaks": clock("CLOCK:RECONCILE", settings.WAKE_EVERY),
        "read heartbeats": clock("CLOCK:LIVENESS", settings.WAKE_EVERY),
        "mend the discovery index": clock("CLOCK:INDEX", settings.WAKE_EVERY),
        "rebuild the discovery index": clock("CLOCK:REBUILD", settings.REBUILD_INDEX_EVERY),
        "count the usage": clock("CLOCK:USAGE", settings.USAGE_DRAIN_EVERY),
        "forget old usage": clock("CLOCK:FORGET_USAGE", settings.USAGE_FORGET_TICK),
        "sync the catalogue": clock("CLOCK:SYNC_CATALOG", settings.SYNC_CATALOG_TICK),
    },
)
app.autodiscover_tasks()


@celeryd_init.connect
@beat_init.connect
def refuse_unreachable_servers(**_: object) -> None:
    """Before a worker or the clock starts. Later, both wait for a broker that goes away."""
    with configuration.refusing():
        configuration.reach_database(settings.DATABASE_URL)
        configuration.reach_redis(settings.REDIS_URL)
