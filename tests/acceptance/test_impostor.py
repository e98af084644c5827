"""Somebody speaks for a machine without being it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.acceptance.running_stack import RunningStack, until


def test_it_is_refused_recorded_and_keeps_no_dead_machine_routed(stack: RunningStack, served: str) -> None:
    (machine,) = stack.machines_of(served)
    token = _token_of(stack, machine["id"])

    def impostors() -> list[int]:
        return [
            _heartbeat(stack, served, token=token, source="127.0.0.1"),
            _heartbeat(stack, served, token="t" * 43, source=machine["address"]),
        ]

    assert impostors() == [403, 401]
    refusals = until(lambda: _refusals(stack, served), within=10, what="both refusals are recorded")
    assert refusals == {("address", "127.0.0.1"), ("token", machine["address"])}

    stack.manage("mock_cloud", "kill", served)

    def is_over() -> bool:
        assert 200 not in impostors()
        return bool(stack.instance(served)["status"] == "TERMINATED")

    until(is_over, within=40, what="it is given up, though impostors say that it is well")
    assert not stack.answers()


def _token_of(stack: RunningStack, server_id: str) -> str:
    """From the machine's disk, as a thief might have it."""
    state = stack.home / "mock" / "machines" / server_id / "var/lib/inventiv/state.json"
    return str(json.loads(state.read_text())["agent_token"])


def _heartbeat(stack: RunningStack, instance_id: str, *, token: str, source: str) -> int:
    body = {"instance_id": instance_id, "ready": True, "load": 0}
    with httpx.Client(transport=httpx.HTTPTransport(local_address=source), timeout=10) as client:
        headers = {"Authorization": f"Bearer {token}"}
        return client.post(f"{stack.router_url}/internal/heartbeat", json=body, headers=headers).status_code


def _refusals(stack: RunningStack, instance_id: str) -> Any:
    """What is recorded, once both are."""
    rows = stack.instance(instance_id)["heartbeat_refusals"]
    return {(row["reason"], row["address"]) for row in rows} if len(rows) > 1 else None
