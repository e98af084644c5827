"""What a worker's agent hears when it reports."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.routing.discovery import truth
from tests.routing.router.fleet import Fleet


async def beat(fleet: Fleet, instance: str, *, token: str | None = truth.AGENT_TOKEN, **fields: Any) -> httpx.Response:
    body = {"instance_id": instance, "ready": True, "load": 0, "detail": ""} | fields
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=headers) as client:
        return await client.post("/internal/heartbeat", content=json.dumps(body))


async def test_it_is_written_down_and_answered_with_the_status(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)

    answer = await beat(fleet, instance_id, ready=False, load=4, detail="loading")

    assert (answer.status_code, answer.json()) == (200, {"status": "READY", "drain": False})
    pulse = fleet.publisher.pulses([instance_id])[instance_id]
    assert (pulse.ready, pulse.worker_load, pulse.current_load, pulse.detail) == (False, 4, 4, "loading")


async def test_a_worker_that_is_to_drain_is_told(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)
    fleet.move(instance_id, "DRAINING")

    assert (await beat(fleet, instance_id)).json() == {"status": "DRAINING", "drain": True}


@pytest.mark.parametrize("token", ["wrong", None])
async def test_a_wrong_token_is_refused(fleet: Fleet, token: str | None) -> None:
    instance_id = fleet.add(port=1)

    assert (await beat(fleet, instance_id, token=token)).status_code == 401


async def test_an_unknown_instance_is_not_found(fleet: Fleet) -> None:
    assert (await beat(fleet, "no-such-instance")).status_code == 404


async def test_after_a_flush_the_agent_is_asked_to_try_again(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)
    fleet.store.flushall()

    answer = await beat(fleet, instance_id)

    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    fleet.rebuild()
    assert (await beat(fleet, instance_id)).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"ready": "yes"},
        {"load": -1},
        {"load": 1.5},
        {"load": True},
        {"load": 10**9},
        {"instance_id": ""},
        {"instance_id": 5},
        {"instance_id": "x" * 1000},
        {"instance_id": "\ud800"},
    ],
)
async def test_a_malformed_heartbeat_is_a_bad_request(fleet: Fleet, fields: dict[str, Any]) -> None:
    assert (await beat(fleet, fleet.add(port=1), **fields)).status_code == 400


async def test_a_long_detail_is_cut_and_a_strange_one_does_no_harm(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)

    assert (await beat(fleet, instance_id, detail="x" * 5000)).status_code == 200
    assert len(fleet.publisher.pulses([instance_id])[instance_id].detail) == 500
    assert (await beat(fleet, instance_id, detail="\ud800")).status_code == 200
