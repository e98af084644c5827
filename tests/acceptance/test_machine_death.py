"""A machine dies without a word."""

from __future__ import annotations

from tests.acceptance.running_stack import MODEL, QUICK, RunningStack, until


def test_it_stops_routing_then_gives_up_and_cleans_up_a_machine_that_dies(stack: RunningStack, served: str) -> None:
    stack.manage("mock_cloud", "kill", served)
    stale_after = float(QUICK["HEARTBEAT_STALE_AFTER"])

    until(lambda: not _is_offered(stack), within=stale_after + 2, what="no request is sent to the dead machine")
    terminated = stack.until_status(served, "TERMINATED")

    moves = [(move["from_status"], move["to_status"]) for move in terminated["transitions"]]
    assert moves[-2:] == [("READY", "FAILED"), ("FAILED", "TERMINATED")]
    assert all(move["reason"] and move["actor"] for move in terminated["transitions"])
    assert stack.machines_of(served) == []
    assert all(line["until"] for line in stack.bill_of(served))


def _is_offered(stack: RunningStack) -> bool:
    """Whether the router would still send a request to a machine of the model: 503 says that it has none."""
    import httpx

    answer = httpx.post(
        f"{stack.router_url}/v1/chat/completions",
        headers={"Authorization": f"Bearer {stack.key}"},
        json={"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]},
        timeout=10,
    )
    return not (answer.status_code == 503 and answer.json()["error"]["code"] == "no_ready_instance")
