"""A worker's agent, as it speaks to a router."""

from __future__ import annotations

import httpx

from tests.routing.discovery import truth
from tests.routing.router.process import RouterProcess


def beat(router: RouterProcess, instance_id: str, *, load: int) -> None:
    """One heartbeat of a healthy worker: its engine has so many requests."""
    answer = httpx.post(
        f"{router.url}/internal/heartbeat",
        json={"instance_id": instance_id, "ready": True, "load": load},
        headers={"authorization": f"Bearer {truth.AGENT_TOKEN}"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
