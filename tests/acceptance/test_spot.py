"""The mock cloud takes a spot machine back."""

from __future__ import annotations

from typing import Any

from tests.acceptance.running_stack import MODEL, RunningStack, until

# An order for a spot machine, as the plan of one says it; in one transaction, before the orchestrator sees it.
_ORDER = f"""
from django.db import transaction
from django.utils import timezone
from catalog.placement import Limits
from fleet import commands
with transaction.atomic():
    order = commands.DeploymentOrder({MODEL!r}, limits=Limits(providers=("mock",)))
    request = commands.request_deployment(order, actor=commands.Actor("a test"), now=timezone.now())
    for row in request.plan["ranked"]:
        row["offer"]["spot"] = True
    request.save()
print(request.deployments.get().instance_id)
"""


def test_a_notice_drains_the_machine_and_another_takes_its_place(stack: RunningStack) -> None:
    spot = stack.manage("shell", "--verbosity", "0", "-c", _ORDER).split()[-1]
    stack.until_status(spot, "READY")

    stack.manage("mock_cloud", "interrupt", spot)

    stand_in = until(lambda: _stand_in_of(stack, spot), within=15, what="a replacement")
    ended = stack.until_status(spot, "TERMINATED")
    assert "takes its spot machine back" in ended["termination_reason"]
    assert [move["to_status"] for move in ended["transitions"]][-2:] == ["DRAINING", "TERMINATED"]
    assert stack.until_status(stand_in["instance_id"], "READY")["interrupted_at"] is None
    stack.until_answering()
    assert len(stack.bill_of(spot)) == len(stack.bill_of(stand_in["instance_id"])) == 1

    stack.terminate(stand_in["instance_id"])
    stack.until_status(stand_in["instance_id"], "TERMINATED")


def _stand_in_of(stack: RunningStack, instance_id: str) -> Any:
    with stack.api() as api:
        rows = api.get("/deployments", params={"page_size": 200}).json()["results"]
    return next((row for row in rows if row["replaces_instance_id"] == instance_id), None)
