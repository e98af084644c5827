"""What a worker's agent hears when it reports."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from routing.discovery import keys
from tests.routing.discovery import truth
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router.conftest import StartRouter
from tests.routing.router.fleet import Fleet


async def beat(
    fleet: Fleet,
    instance: str,
    *,
    token: str | None = truth.AGENT_TOKEN,
    source: str = "127.0.0.1",
    forwarded: str = "",
    **fields: Any,
) -> httpx.Response:
    body = {"instance_id": instance, "ready": True, "load": 0, "detail": ""} | fields
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    headers |= {"x-forwarded-for": forwarded} if forwarded else {}
    transport = httpx.AsyncHTTPTransport(local_address=source)
    async with httpx.AsyncClient(base_url=fleet.router.url, headers=headers, transport=transport) as client:
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


async def test_one_from_another_address_is_refused_and_recorded_and_changes_nothing(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)
    before = fleet.store.hgetall(keys.instance(instance_id))

    answer = await beat(fleet, instance_id, source="127.77.0.9", load=9)

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "invalid_agent_address")
    assert fleet.store.hgetall(keys.instance(instance_id)) == before
    (refusal,) = fleet.publisher.take_refusals()
    assert (refusal.instance_id, refusal.reason, refusal.address) == (instance_id, "address", "127.77.0.9")


async def test_a_stranger_does_not_choose_its_address(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)

    answer = await beat(fleet, instance_id, source="127.77.0.9", forwarded="127.0.0.1")

    assert answer.status_code == 403


async def test_behind_a_trusted_proxy_the_address_is_the_one_that_the_proxy_saw(
    redis_server: RedisServer, fleet: Fleet, start_router: StartRouter
) -> None:
    fleet.router = start_router(redis_server.url, ROUTER_TRUSTED_PROXIES="127.88.0.0/16")
    instance_id = fleet.add(port=1, ip="192.0.2.7")

    async def through_the_proxy(forwarded: str) -> int:
        return (await beat(fleet, instance_id, source="127.88.0.1", forwarded=forwarded)).status_code

    assert await through_the_proxy("192.0.2.7") == 200
    assert await through_the_proxy("198.51.100.1, 192.0.2.7, 127.88.0.2") == 200
    assert await through_the_proxy("192.0.2.7, 198.51.100.1") == 403
    assert await through_the_proxy("") == 403


async def test_an_interruption_is_passed_on(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)

    await beat(fleet, instance_id, interruption="2026-03-01T12:02:00Z")

    assert fleet.publisher.pulses([instance_id])[instance_id].interruption == "2026-03-01T12:02:00Z"


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
        {"interruption": 5},
        {"interruption": "x" * 41},
        {"interruption": "12:00\n"},
    ],
)
async def test_a_malformed_heartbeat_is_a_bad_request(fleet: Fleet, fields: dict[str, Any]) -> None:
    assert (await beat(fleet, fleet.add(port=1), **fields)).status_code == 400


async def test_a_long_detail_is_cut_and_a_strange_one_does_no_harm(fleet: Fleet) -> None:
    instance_id = fleet.add(port=1)

    assert (await beat(fleet, instance_id, detail="x" * 5000)).status_code == 200
    assert len(fleet.publisher.pulses([instance_id])[instance_id].detail) == 500
    assert (await beat(fleet, instance_id, detail="\ud800")).status_code == 200
