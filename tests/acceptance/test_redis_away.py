"""Redis is flushed, killed, or away: moments of routing are lost, never a machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from inventiv.embedded import defaults
from tests.acceptance.running_stack import QUICK, RunningStack

BACK_WITHIN = 5 + float(QUICK["REBUILD_INDEX_EVERY"])  # seconds: five after the next beat


@contextmanager
def requests_running(stack: RunningStack) -> Iterator[None]:
    """Somebody asks all the time, as fast as answers come."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            stack.answers()

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()


def flush(stack: RunningStack) -> None:
    with redis.Redis.from_url(defaults.redis_url(stack.home)) as client:
        client.flushall()


def kill(stack: RunningStack) -> None:
    os.kill(stack.pid("redis"), signal.SIGKILL)
    stack.until_up("redis")


@pytest.mark.parametrize("blow", [flush, kill])
def test_it_routes_again_soon_and_touches_no_machine(stack: RunningStack, served: str, blow: object) -> None:
    machines = stack.machines()
    history = stack.instance(served)["transitions"]

    with requests_running(stack):
        blow(stack)  # type: ignore[operator]
        stack.until_answering(within=BACK_WITHIN)

    time.sleep(float(QUICK["HEARTBEAT_LOST_AFTER"]) + 1)  # a wrong reaper would strike by now
    assert stack.machines() == machines
    assert stack.instance(served)["transitions"] == history
    stack.until_answering(within=2)


def test_it_accepts_a_deployment_while_the_broker_is_away(stack: RunningStack) -> None:
    supervisor = stack.supervisor
    supervisor.stop_program("databases:redis")
    try:
        asked_at = time.monotonic()
        instance_id = stack.deploy()
        took = time.monotonic() - asked_at
        assert stack.instance(instance_id)["status"] == "PROVISIONING"
    finally:
        supervisor.start_program("databases:redis")

    assert took < 2
    stack.until_up("redis")
    stack.until_status(instance_id, "READY", within=60)
    stack.terminate(instance_id)
    stack.until_status(instance_id, "TERMINATED", within=60)
