"""kill -9 of the orchestrator, workers and all, in the middle of a provisioning."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.running_stack import RunningStack, until

TIMES = 20


@pytest.fixture
def slow_cloud(stack: RunningStack) -> Iterator[None]:
    """A provisioning takes long enough to be hit."""
    stack.chaos("start_seconds", "1")
    stack.chaos("boot_seconds", "0.5")
    yield
    stack.calm()


@pytest.mark.usefixtures("slow_cloud")
def test_it_rents_one_machine_each_time_and_leaves_none(stack: RunningStack) -> None:
    moments = random.Random(20261123)
    instances = []

    for _ in range(TIMES):
        before = stack.pid("orchestrator")
        instances.append(stack.deploy())
        time.sleep(moments.uniform(0, 2))  # the random moment itself, not a wait for something
        stack.kill_group("orchestrator")
        stack.until_up("orchestrator", other_than=before)

    for instance_id in instances:
        stack.until_status(instance_id, "READY", within=120)
        assert len(stack.bill_of(instance_id)) == 1, "exactly one machine was ever rented for it"
        stack.terminate(instance_id)
    for instance_id in instances:
        stack.until_status(instance_id, "TERMINATED", within=120)
    until(lambda: not {row["instance_id"] for row in stack.machines()} & set(instances), within=5, what="none left")
