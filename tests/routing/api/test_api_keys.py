from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone
from rest_framework.test import APIClient

from inventiv.accounts.roles import Role
from routing.discovery import keys
from routing.models import ApiKey
from routing.models.api_key import hash_key
from tests.inventiv.api_stage import bearing, session, with_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def index(settings: Any) -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


def issue(client: APIClient, **body: Any) -> dict[str, Any]:
    response = client.post("/api-keys", {"name": "script", "scopes": ["inference"], **body})
    assert response.status_code == 201, response.json()
    answer: dict[str, Any] = response.json()
    return answer


def test_a_key_is_shown_once_and_kept_as_a_hash(operator: APIClient) -> None:
    answer = issue(operator, scopes=["read"])
    row = ApiKey.objects.get()

    assert row.sha256 == hash_key(answer["key"])
    assert answer["key"].startswith(row.prefix)
    assert row.owner.email == "operator@example.com"
    assert bearing(answer["key"]).get("/me").status_code == 200
    for page in (operator.get("/api-keys"), operator.get(f"/api-keys/{row.pk}")):
        assert answer["key"] not in page.content.decode()
        assert row.sha256 not in page.content.decode()


def test_the_answer_with_the_key_is_not_cached(operator: APIClient) -> None:
    response = operator.post("/api-keys", {"name": "script", "scopes": ["read"]})
    assert response["Cache-Control"] == "no-store"


def test_one_sees_ones_own_and_an_admin_sees_all(operator: APIClient, admin: APIClient) -> None:
    ours, theirs = issue(operator), issue(admin)

    assert [row["id"] for row in operator.get("/api-keys").json()["results"]] == [ours["id"]]
    assert {row["id"] for row in admin.get("/api-keys").json()["results"]} == {ours["id"], theirs["id"]}
    assert operator.get(f"/api-keys/{theirs['id']}").status_code == 404
    assert operator.delete(f"/api-keys/{theirs['id']}").status_code == 404
    assert ApiKey.objects.get(pk=theirs["id"]).revoked_at is None


def test_revoking_is_safe_to_repeat_and_keeps_the_row(operator: APIClient) -> None:
    answer = issue(operator, scopes=["read"])
    first = operator.delete(f"/api-keys/{answer['id']}")
    revoked_at = ApiKey.objects.get().revoked_at
    again = operator.delete(f"/api-keys/{answer['id']}")

    assert (first.status_code, again.status_code) == (204, 204)
    assert ApiKey.objects.get().revoked_at == revoked_at
    assert bearing(answer["key"]).get("/me").status_code == 401


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": "a\x00"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": "read"}, "scopes"),
        ({"scopes": [["read"]]}, "scopes.0"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"owner": "admin@example.com"}, "owner"),
    ],
)
def test_it_names_what_is_wrong_with_an_order(operator: APIClient, change: dict[str, Any], field: str) -> None:
    response = operator.post("/api-keys", {"name": "script", "scopes": ["read"], **change})
    assert response.status_code == 400, response.json()
    assert [fault["field"] for fault in response.json()["errors"]] == [field]
    assert not ApiKey.objects.exists()


def test_a_viewer_makes_no_keys(viewer: APIClient) -> None:
    assert viewer.post("/api-keys", {"name": "script", "scopes": ["read"]}).status_code == 403


def test_a_key_that_expires_makes_none_that_outlives_it() -> None:
    client = with_key("write")
    ApiKey.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    later = (timezone.now() + timedelta(hours=2)).isoformat()
    sooner = (timezone.now() + timedelta(minutes=30)).isoformat()

    def status(**body: Any) -> int:
        return client.post("/api-keys", {"name": "child", "scopes": ["read"], **body}).status_code

    assert (status(), status(expires_at=later), status(expires_at=sooner)) == (400, 400, 201)


# --- the router is told -------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_router_learns_of_an_inference_key_and_of_its_end(index: redis.Redis) -> None:
    client = session(Role.OPERATOR)
    expires_at = datetime(2099, 1, 1, tzinfo=UTC)
    answer = issue(client, expires_at=expires_at.isoformat())
    name = keys.api_key(hash_key(answer["key"]))

    assert index.hget(name, "key_id") == answer["id"]
    assert float(str(index.hget(name, "expires_at"))) == expires_at.timestamp()
    client.delete(f"/api-keys/{answer['id']}")
    assert not index.exists(name)


@pytest.mark.django_db(transaction=True)
def test_the_router_never_learns_of_other_keys(index: redis.Redis) -> None:
    answer = issue(session(Role.OPERATOR), scopes=["read", "write"])
    assert not index.exists(keys.api_key(hash_key(answer["key"])))


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("away", ["refuses", "silent"])
def test_a_key_is_made_and_revoked_without_redis(settings: Any, silent_port: int, away: str) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{silent_port if away == 'silent' else 1}/0"
    client = session(Role.OPERATOR)
    started = time.monotonic()
    answer = issue(client)
    assert client.delete(f"/api-keys/{answer['id']}").status_code == 204
    assert time.monotonic() - started < 2
