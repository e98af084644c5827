"""Usage in the admin: looked at by whom it concerns, summed, and never changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.models import ApiKey, RejectedUsage
from routing.usage.budgets import beginning_of_month
from tests.fleet.admin.rows import client_of, user
from tests.routing.usage.rows import hour, record

pytestmark = pytest.mark.django_db

HOURS = reverse("admin:routing_usagehour_changelist")
RECORDS = reverse("admin:routing_usagerecord_changelist")


@pytest.fixture
def admin() -> User:
    return user(Role.ADMIN)


@pytest.fixture
def operator() -> User:
    return user(Role.OPERATOR)


def issue(owner: User, name: str = "a script", **fields: Any) -> ApiKey:
    return ApiKey.issue(owner_id=owner.pk, name=name, scopes=["inference"], **fields)[0]


def page(client: Client, url: str, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200
    return response.content.decode()


def shown(client: Client, url: str, **query: str) -> list[Any]:
    return list(client.get(url, query).context["cl"].result_list)


def test_hours_are_summed_above_the_list_whatever_page_is_shown(admin: User) -> None:
    for number in range(60):
        hour(model_id=f"m{number}")
    hour(status=500, cost_micros=123)
    text = page(client_of(admin), HOURS, p="2")
    assert "610 requests, 10 of them errors; 61,000 tokens in (18,300 cached), 12,200 out; 3.000123 in money" in text


def test_a_row_names_its_key_and_leads_there_unless_it_is_gone(admin: User) -> None:
    key = issue(admin, "notebook")
    hour(key_id=key.pk)
    hour(key_id=uuid.UUID(int=5))
    text = page(client_of(admin), HOURS)
    assert f'<a href="{reverse("admin:routing_apikey_change", args=[key.pk])}">notebook</a>' in text
    assert f'<span title="{uuid.UUID(int=5)}">gone</span>' in text


def test_single_requests_are_shown_and_summed(admin: User) -> None:
    record(key_id=issue(admin, "notebook").pk)
    record(status=502, first_token_ms=None)
    text = page(client_of(admin), RECORDS)
    assert "2 requests, 1 of them errors; 200 tokens in (100 cached), 40 out; 0.002468 in money" in text
    assert "notebook" in text


@pytest.mark.parametrize(("time", "count"), [("", 1), ("last", 1), ("all", 3)])
def test_hours_of_this_month_are_shown_unless_others_are_asked_for(admin: User, time: str, count: int) -> None:
    month = beginning_of_month(timezone.now())
    last = beginning_of_month(month - timedelta(days=1))
    for at in (month, last, last - timedelta(hours=1)):
        hour(hour=at)
    rows = shown(client_of(admin), HOURS, **({"time": time} if time else {}))
    assert len(rows) == count
    assert {"": month, "last": last, "all": month}[time] in {row.hour for row in rows}


@pytest.mark.parametrize(("time", "count"), [("", 1), ("day", 2), ("all", 3)])
def test_requests_of_the_last_hour_are_shown_unless_others_are_asked_for(admin: User, time: str, count: int) -> None:
    for hours in (0, 2, 30):
        record(ended_at=timezone.now() - timedelta(hours=hours))
    assert len(shown(client_of(admin), RECORDS, **({"time": time} if time else {}))) == count


@pytest.mark.parametrize("url", [HOURS, RECORDS])
@pytest.mark.parametrize(("outcome", "statuses"), [("answered", [200]), ("errors", [499, 503]), ("left", [499])])
def test_it_filters_by_outcome(admin: User, url: str, outcome: str, statuses: list[int]) -> None:
    for status in (200, 499, 503):
        hour(status=status)
        record(status=status)
    assert sorted(row.status for row in shown(client_of(admin), url, outcome=outcome)) == statuses


@pytest.mark.parametrize("url", [HOURS, RECORDS])
def test_it_searches_by_model_and_by_the_keys_name(admin: User, url: str) -> None:
    key = issue(admin, "notebook")
    for make in (hour, record):
        make(key_id=key.pk)
        make(model_id="acme/large")
    client = client_of(admin)
    assert [row.model_id for row in shown(client, url, q="LARGE")] == ["acme/large"]
    assert [row.key_id for row in shown(client, url, q="noteb")] == [key.pk]


@pytest.mark.parametrize("url", [HOURS, RECORDS])
def test_one_sees_what_ones_own_keys_did_and_an_admin_sees_all(admin: User, operator: User, url: str) -> None:
    ours, theirs = issue(operator), issue(admin)
    for key in (ours, theirs):
        hour(key_id=key.pk)
        record(key_id=key.pk)
    assert [row.key_id for row in shown(client_of(operator), url)] == [ours.pk]
    assert len(shown(client_of(admin), url)) == 2


@pytest.mark.parametrize("make", [hour, record])
def test_nobody_changes_what_was_used(admin: User, make: Callable[[], Any]) -> None:
    row = make()
    client = client_of(admin)
    name = f"admin:routing_{row._meta.model_name}"
    for page_name in ("change", "delete"):
        assert client.post(reverse(f"{name}_{page_name}", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert client.post(reverse(f"{name}_changelist"), {"action": "delete_selected"}).status_code == 403
    assert client.post(reverse(f"{name}_add"), {}).status_code == 403


@pytest.mark.parametrize(("url", "make"), [(HOURS, hour), (RECORDS, record)])
def test_the_list_takes_as_many_queries_for_thirty_rows_as_for_one(
    admin: User, url: str, make: Callable[..., Any], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    client = client_of(admin)
    make(key_id=issue(admin).pk)
    client.get(url)
    with CaptureQueriesContext(connection) as few:
        client.get(url)
    for number in range(29):
        make(key_id=issue(admin).pk, model_id=f"m{number}")
    with django_assert_num_queries(len(few)):
        client.get(url)


def test_what_could_not_be_counted_is_shown_with_its_reason(admin: User) -> None:
    RejectedUsage.objects.create(entry="1-0", ordinal=1, reason="no UUID", line="<b>", rejected_at=timezone.now())
    text = page(client_of(admin), reverse("admin:routing_rejectedusage_changelist"))
    assert "no UUID" in text


# --- a key's page -------------------------------------------------------------------------------------------------


def test_a_keys_page_shows_its_month_so_far_beside_its_budgets(operator: User) -> None:
    key = issue(operator, monthly_token_budget=4800, monthly_budget=Decimal("0.20"))
    month = beginning_of_month(timezone.now())
    hour(key_id=key.pk, hour=month)
    hour(key_id=key.pk, hour=month, model_id="acme/large", status=499)
    hour(key_id=key.pk, hour=month - timedelta(hours=1))
    hour(hour=month)

    text = page(client_of(operator), reverse("admin:routing_apikey_change", args=[key.pk]))

    assert "20 requests, 2,400 of 4,800 (50 %) tokens, 0.10 of 0.20 (50 %) in money" in text
    assert f"{HOURS}?key_id__exact={key.pk}" in text
    assert len(shown(client_of(operator), HOURS, key_id__exact=str(key.pk))) == 2


def test_a_key_without_budgets_shows_what_it_used(operator: User) -> None:
    key = issue(operator)
    text = page(client_of(operator), reverse("admin:routing_apikey_change", args=[key.pk]))
    assert "0 requests, 0 tokens, 0.00 in money" in text
