"""A key's limits in the admin: set with the key, changed on its page, and never the key itself."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.admin import site
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.admin.forms import ChangedKeyForm
from routing.discovery import keys
from routing.models import ApiKey
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
def operator() -> User:
    return user(Role.OPERATOR)


def issue(owner: User, **fields: Any) -> ApiKey:
    return ApiKey.issue(owner_id=owner.pk, name="a script", scopes=["inference"], **fields)[0]


def page_of(row: ApiKey) -> str:
    return reverse("admin:routing_apikey_change", args=[row.pk])


def change(client: Client, row: ApiKey, **form: Any) -> Any:
    return client.post(page_of(row), {"name": row.name, **form})


def test_a_key_is_made_with_limits(operator: User) -> None:
    client_of(operator).post(
        ADD,
        {
            "name": "notebook",
            "scopes": ["inference"],
            "allowed_models": "acme/small,acme/large",
            "requests_per_minute": "60",
            "monthly_budget": "12.50",
        },
    )
    row = ApiKey.objects.get()
    assert row.allowed_models == ["acme/large", "acme/small"]
    assert (row.requests_per_minute, row.concurrency, row.monthly_budget) == (60, None, Decimal("12.50"))


def test_limits_are_changed_on_the_keys_page_and_told_to_the_router(
    operator: User, index: redis.Redis, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    row = issue(operator, requests_per_minute=60)
    with django_capture_on_commit_callbacks(execute=True):
        response = change(client_of(operator), row, concurrency="3")

    assert response.status_code == 302
    told: Any = index.hgetall(keys.api_key(row.sha256))
    assert (told["concurrency"], told["requests_per_minute"]) == ("3", "0")


def test_a_page_that_was_opened_before_the_key_was_revoked_does_not_bring_it_back(
    operator: User, rf: RequestFactory
) -> None:
    row = issue(operator)
    ApiKey.objects.update(revoked_at=timezone.now())
    form = ChangedKeyForm({"name": row.name, "concurrency": "3"}, instance=row)
    assert form.is_valid()
    request = rf.post(page_of(row))
    request.user = operator

    site._registry[ApiKey].save_model(request, row, form, True)

    assert ApiKey.objects.get().revoked_at is not None


def test_nothing_but_name_and_limits_is_taken_from_the_form(operator: User) -> None:
    row = issue(operator)
    change(client_of(operator), row, owner=user(Role.ADMIN).pk, scopes=["write"], sha256="0" * 64, name="renamed")

    changed = ApiKey.objects.get()
    assert changed.name == "renamed"
    assert (changed.owner_id, changed.scopes, changed.sha256) == (row.owner_id, row.scopes, row.sha256)


def test_a_limit_that_cannot_be_is_refused_at_its_field(operator: User) -> None:
    row = issue(operator)
    response = change(client_of(operator), row, requests_per_minute="0", monthly_budget="-1")

    assert set(response.context["adminform"].form.errors) == {"requests_per_minute", "monthly_budget"}


def test_a_revoked_key_can_only_be_looked_at(operator: User) -> None:
    row = issue(operator)
    ApiKey.objects.update(revoked_at=timezone.now())
    client = client_of(operator)

    assert client.get(page_of(row)).status_code == 200
    assert change(client, row, concurrency="3").status_code == 403


def test_nobody_limits_the_key_of_another(operator: User) -> None:
    row = issue(user(Role.ADMIN))
    change(client_of(operator), row, concurrency="3")
    assert ApiKey.objects.get().concurrency is None


def test_the_list_says_what_each_key_is_limited_to(operator: User) -> None:
    issue(operator)
    issue(operator, allowed_models=["acme/small"], tokens_per_minute=10_000, monthly_budget=Decimal("12.50"))
    text = client_of(operator).get(LIST).content.decode()
    assert "1 model<br>10,000 tokens a minute<br>12.50 a month in money" in text
