"""What is wrong is refused with a 4xx that names the fault; nothing is written, nothing breaks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from tests.acceptance.running_stack import MODEL, RunningStack

ON_MOCK = {"providers": ["mock"]}


@pytest.fixture
def api(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.api() as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_written(stack: RunningStack, served: str) -> Iterator[None]:
    before = stack.live_instances()
    yield
    assert stack.live_instances() == before


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ({"model": "nobody/nothing"}, "nobody/nothing"),
        ({"model": MODEL, "limits": {"providers": ["mock"], "zones": ["fr-par-2"]}}, "fr-par-2"),
        ({"model": "meta-llama/Llama-3.1-405B-Instruct", "limits": ON_MOCK}, "model"),
        ({"model": MODEL, "limits": {"providers": ["mock"], "max_price_per_hour": "0.01"}}, "model"),
        ({"model": MODEL, "replicas": 0}, "replicas"),
        ({"model": MODEL, "replicas": 10**9}, "replicas"),
        ({"model": MODEL, "replicas": "many"}, "replicas"),
        ({"model": MODEL, "colour": "blue"}, "colour"),
        ({"model": MODEL, "limits": "none"}, "limits"),
        ({}, "model"),
        ([], ""),
    ],
)
def test_it_names_what_is_wrong_with_an_order(api: httpx.Client, order: Any, named: str) -> None:
    answer = api.post("/deployments", json=order)

    assert 400 <= answer.status_code < 500, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert named in answer.text


def test_it_refuses_malformed_json(api: httpx.Client) -> None:
    answer = api.post("/deployments", content=b'{"model": ', headers={"Content-Type": "application/json"})

    assert answer.status_code == 400


@pytest.mark.parametrize("url", ["api_url", "router_url"])
def test_it_refuses_a_body_of_50_megabytes(stack: RunningStack, url: str) -> None:
    path = {"api_url": "/deployments", "router_url": "/v1/chat/completions"}[url]

    answer = httpx.post(
        getattr(stack, url) + path,
        content=b'{"model": "' + b"x" * 50_000_000 + b'"}',
        headers={"Authorization": f"Bearer {stack.key}", "Content-Type": "application/json"},
        timeout=30,
    )

    assert answer.status_code == 413, answer.text


def test_it_refuses_an_expired_key_everywhere(stack: RunningStack, api: httpx.Client) -> None:
    expires_at = datetime.now(UTC) + timedelta(seconds=1)
    body = {"name": "short-lived", "scopes": ["read", "inference"], "expires_at": expires_at.isoformat()}
    key = api.post("/api-keys", json=body).json()["key"]
    time.sleep(1.2)

    with stack.api(key) as late, stack.openai(key) as late_client:
        assert late.get("/instances").status_code == 401
        with pytest.raises(openai.AuthenticationError):
            late_client.models.list()


def test_it_refuses_a_viewer_who_deletes(stack: RunningStack, served: str) -> None:
    key = stack.manage(
        "shell",
        "-v0",
        "-c",
        "from inventiv.accounts.models import User; from routing.models import ApiKey\n"
        f"user = User.objects.create_user('{uuid4()}@example.org', role='viewer')\n"
        "print(ApiKey.issue(owner_id=user.pk, name='viewer', scopes=['read', 'write'])[1])",
    ).strip()

    with stack.api(key) as viewer:
        assert viewer.get(f"/instances/{served}").status_code == 200
        answer = viewer.delete(f"/instances/{served}")

    assert answer.status_code == 403
    assert stack.instance(served)["termination_requested_at"] is None


def test_it_knows_no_instance_that_does_not_exist(api: httpx.Client) -> None:
    assert api.delete(f"/instances/{uuid4()}").status_code == 404
    assert api.get("/instances/not-an-id").status_code == 404


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": 7}', b'{"messages": []}', b"\xff\xfe", b'{"model": "' + b"[" * 10_000]
)
def test_it_breaks_on_nothing_that_a_client_sends_to_the_router(stack: RunningStack, body: bytes) -> None:
    answer = httpx.post(
        f"{stack.router_url}/v1/chat/completions", content=body, headers={"Authorization": f"Bearer {stack.key}"}
    )

    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
