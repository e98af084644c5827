"""API keys in the admin: shown once, published to the router, revoked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.discovery import keys
from routing.models import ApiKey
from routing.models.api_key import PREFIX, hash_key
from tests.fleet.admin.rows import client_of, user

pytestmark = pytest.mark.django_db

LIST = reverse("admin:routing_apikey_changelist")
ADD = reverse("admin:routing_apikey_add")


@pytest.fixture
def index() -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def admin() -> User:
    return user(Role.ADMIN)


@pytest.fixture
def operator() -> User:
    return user(Role.OPERATOR)


def made(text: str) -> str:
    """The key that a page shows."""
    return PREFIX + text.partition(f'<code class="inv-key">{PREFIX}')[2].partition("<")[0]


def issue(owner: User, name: str = "a script") -> tuple[ApiKey, str]:
    return ApiKey.issue(owner_id=owner.pk, name=name, scopes=["inference"])


def revoke(client: Client, row: ApiKey, **more: Any) -> Any:
    return client.post(LIST, {"action": "revoke", "_selected_action": row.pk, **more})


def test_a_new_key_is_shown_once_and_never_stored(operator: User) -> None:
    client = client_of(operator)
    response = client.post(ADD, {"name": "notebook", "scopes": ["inference", "read"]})
    assert response.status_code == 200
    key = made(response.content.decode())
    row = ApiKey.objects.get(sha256=hash_key(key))
    assert (row.owner, row.name, row.scopes) == (operator, "notebook", ["inference", "read"])

    assert "no-store" in response.headers["Cache-Control"]
    assert key not in str(response.cookies)
    assert all(key not in str(session.get_decoded()) for session in Session.objects.all())
    for url in (LIST, reverse("admin:routing_apikey_change", args=[row.pk])):
        text = client.get(url).content.decode()
        assert key not in text
        assert row.sha256 not in text
        assert row.prefix in text


def test_the_router_learns_of_a_key_and_of_its_end(
    operator: User, index: redis.Redis, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    client = client_of(operator)
    with django_capture_on_commit_callbacks(execute=True):
        client.post(ADD, {"name": "notebook", "scopes": ["inference"]})
    row = ApiKey.objects.get()
    assert index.exists(keys.api_key(row.sha256))
    with django_capture_on_commit_callbacks(execute=True):
        revoke(client, row, confirmed="yes")
    assert not index.exists(keys.api_key(row.sha256))
    row.refresh_from_db()
    assert row.revoked_at is not None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"expires_at_0": "2020-01-01", "expires_at_1": "00:00:00"}, "expires_at"),
        ({"expires_at_0": "soon", "expires_at_1": "00:00:00"}, "expires_at"),
    ],
)
def test_a_key_that_cannot_be_is_refused_at_its_field(operator: User, change: dict[str, Any], field: str) -> None:
    response = client_of(operator).post(ADD, {"name": "notebook", "scopes": ["read"], **change})
    assert set(response.context["errors"]) == {field}
    assert not ApiKey.objects.exists()


def test_an_admin_chooses_the_owner_and_an_operator_does_not(admin: User, operator: User) -> None:
    order = {"name": "notebook", "scopes": ["read"], "owner": operator.pk}
    client_of(admin).post(ADD, order)
    assert ApiKey.objects.get().owner == operator
    client_of(operator).post(ADD, {**order, "name": "another", "owner": admin.pk})
    assert ApiKey.objects.get(name="another").owner == operator


def test_everybody_sees_his_own_keys_and_an_admin_all(admin: User, operator: User) -> None:
    mine, theirs = issue(operator, "mine")[0], issue(admin, "theirs")[0]
    text = client_of(operator).get(LIST).content.decode()
    assert mine.prefix in text
    assert theirs.prefix not in text
    assert theirs.prefix in client_of(admin).get(LIST).content.decode()
    assert client_of(operator).get(reverse("admin:routing_apikey_change", args=[theirs.pk])).status_code == 302


def test_nobody_revokes_the_key_of_another(admin: User, operator: User) -> None:
    row = issue(admin)[0]
    revoke(client_of(operator), row, confirmed="yes")
    row.refresh_from_db()
    assert row.revoked_at is None


def test_revoking_asks_first_and_is_done_once(operator: User) -> None:
    row, client = issue(operator)[0], client_of(operator)
    assert b"be undone" in revoke(client, row).content
    row.refresh_from_db()
    assert row.revoked_at is None
    revoke(client, row, confirmed="yes")
    row.refresh_from_db()
    at = row.revoked_at
    revoke(client, row, confirmed="yes")
    row.refresh_from_db()
    assert row.revoked_at == at


def test_a_viewer_makes_and_revokes_nothing() -> None:
    viewer = user(Role.VIEWER)
    row, client = issue(viewer)[0], client_of(viewer)
    assert client.get(ADD).status_code == 403
    assert client.post(ADD, {"name": "notebook", "scopes": ["read"]}).status_code == 403
    assert revoke(client, row, confirmed="yes").status_code == 403
    assert ApiKey.objects.filter(revoked_at__isnull=True).count() == 1


@pytest.mark.parametrize("chosen", ["no-uuid", ""])
def test_a_malformed_id_is_a_bad_request(operator: User, chosen: str) -> None:
    issue(operator)
    response = client_of(operator).post(LIST, {"action": "revoke", "_selected_action": chosen, "confirmed": "yes"})
    assert response.status_code == 400


def test_a_hash_cannot_be_felt_out_by_filtering(operator: User) -> None:
    assert client_of(operator).get(LIST, {"sha256__startswith": "a"}).status_code == 400


@pytest.mark.parametrize(("state", "name"), [("usable", "good"), ("revoked", "gone"), ("expired", "old")])
def test_it_filters_by_state(operator: User, state: str, name: str) -> None:
    now = timezone.now()
    issue(operator, "good")
    for other, change in (("gone", {"revoked_at": now}), ("old", {"expires_at": now - timedelta(days=1)})):
        ApiKey.objects.filter(pk=issue(operator, other)[0].pk).update(**change)
    shown = client_of(operator).get(LIST, {"state": state}).context["cl"].result_list
    assert [row.name for row in shown] == [name]


def test_the_list_takes_as_many_queries_for_thirty_keys_as_for_one(
    admin: User, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = client_of(admin)
    issue(admin)
    client.get(LIST)
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for number in range(29):
        issue(user(Role.VIEWER, f"user{number}"))
    with django_assert_num_queries(len(few)):
        client.get(LIST)
