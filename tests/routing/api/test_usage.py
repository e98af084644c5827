"""GET /usage: sums by group, for whoever may see them, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from inventiv.accounts.roles import Role
from routing.models import ApiKey
from routing.usage.budgets import beginning_of_month
from tests.inventiv.api_stage import bearing, user, with_key
from tests.routing.usage.rows import hour

pytestmark = pytest.mark.django_db

AT = datetime(2026, 3, 7, 12, tzinfo=UTC)
MARCH = {"from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}


def issue(role: Role, name: str = "script", email: str = "") -> ApiKey:
    return ApiKey.issue(owner_id=user(role, email).pk, name=name, scopes=["inference"])[0]


def ask(client: APIClient, **query: Any) -> dict[str, Any]:
    response = client.get("/usage", {**MARCH, **query})
    assert response.status_code == 200, response.json()
    answer: dict[str, Any] = response.json()
    return answer


def test_it_sums_what_was_called_by_model(admin: APIClient) -> None:
    hour(hour=AT)
    hour(hour=AT, status=499, requests=2, first_token_ms=0, first_tokens=0)
    hour(hour=AT + timedelta(hours=1), model_id="acme/large", cost_micros=1)

    answer = ask(admin)

    assert answer["count"] == 2
    assert [row["model"] for row in answer["results"]] == ["acme/large", "acme/small"]
    assert answer["results"][1] == {
        "model": "acme/small",
        "requests": 12,
        "errors": 2,
        "estimated": 2,
        "input_tokens": 2000,
        "output_tokens": 400,
        "cached_tokens": 600,
        "cost": "0.100000",
        "mean_duration_ms": 1500,
        "mean_first_token_ms": 50,
    }
    assert answer["totals"]["requests"] == 22
    assert answer["totals"]["cost"] == "0.100001"
    assert {name: answer[name] for name in MARCH} == MARCH


def test_where_nothing_was_called_the_sums_are_nothing(admin: APIClient) -> None:
    answer = ask(admin)
    assert answer["results"] == []
    assert answer["totals"]["requests"] == answer["totals"]["errors"] == 0
    assert answer["totals"]["mean_duration_ms"] is None
    assert answer["totals"]["mean_first_token_ms"] is None


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("operation", [{"operation": "chat"}, {"operation": "embeddings"}]),
        (
            "hour",
            [{"hour": "2026-03-07T12:00:00Z"}, {"hour": "2026-03-07T13:00:00Z"}, {"hour": "2026-03-08T12:00:00Z"}],
        ),
        ("day", [{"day": "2026-03-07T00:00:00Z"}, {"day": "2026-03-08T00:00:00Z"}]),
        (
            "day, operation",
            [
                {"day": "2026-03-07T00:00:00Z", "operation": "chat"},
                {"day": "2026-03-07T00:00:00Z", "operation": "embeddings"},
                {"day": "2026-03-08T00:00:00Z", "operation": "chat"},
            ],
        ),
    ],
)
def test_it_groups_by_what_is_asked(admin: APIClient, group_by: str, groups: list[dict[str, str]]) -> None:
    for at, operation in ((0, "chat"), (1, "embeddings"), (24, "chat")):
        hour(hour=AT + timedelta(hours=at), operation=operation)
    rows = ask(admin, group_by=group_by)["results"]
    assert [{name: row[name] for name in groups[0]} for row in rows] == groups


def test_a_key_has_its_name_as_long_as_it_is_there(admin: APIClient) -> None:
    key, gone = issue(Role.ADMIN, "notebook"), uuid.UUID(int=2**128 - 1)
    hour(hour=AT, key_id=key.pk)
    hour(hour=AT, key_id=gone)
    rows = {row["key_id"]: row["key"] for row in ask(admin, group_by="key")["results"]}
    assert rows == {str(key.pk): "notebook", str(gone): None}


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ({"model": "acme/large"}, 1),
        ({"operation": "embeddings"}, 2),
        ({"key": str(uuid.UUID(int=7))}, 4),
        ({"key": str(uuid.UUID(int=7)), "model": "acme/large"}, 0),
        ({"from": "2026-03-07T12:59:59Z"}, 23),
        ({"from": "2026-03-07T13:00:00Z"}, 16),
        ({"to": "2026-03-07T13:00:00Z"}, 7),
        ({"to": "2026-03-07T13:00:01Z"}, 23),
        ({"from": "2026-03-07T14:00:00+01:00"}, 16),
    ],
)
def test_it_is_narrowed_by_time_key_model_and_operation(admin: APIClient, query: dict[str, str], requests: int) -> None:
    hour(hour=AT, model_id="acme/large", requests=1)
    hour(hour=AT, operation="embeddings", requests=2)
    hour(hour=AT, key_id=uuid.UUID(int=7), requests=4)
    hour(hour=AT + timedelta(hours=1), requests=16)
    answer = ask(admin, **query)
    assert answer["totals"]["requests"] == sum(row["requests"] for row in answer["results"]) == requests


def test_unless_it_is_asked_otherwise_it_is_this_month(admin: APIClient) -> None:
    now = timezone.now()
    month = beginning_of_month(now)
    hour(hour=month, requests=1)
    hour(hour=month - timedelta(hours=1), requests=2)
    answer = admin.get("/usage").json()
    assert answer["totals"]["requests"] == 1
    assert datetime.fromisoformat(answer["from"]) == month
    assert datetime.fromisoformat(answer["to"]) >= now


def test_one_sees_what_ones_own_keys_did_and_an_admin_sees_all(
    viewer: APIClient, operator: APIClient, admin: APIClient
) -> None:
    ours, theirs = issue(Role.OPERATOR), issue(Role.ADMIN)
    hour(hour=AT, key_id=ours.pk, requests=1)
    hour(hour=AT, key_id=theirs.pk, requests=2)
    hour(hour=AT, key_id=uuid.uuid4(), requests=4)

    assert ask(operator)["totals"]["requests"] == 1
    assert ask(operator, key=theirs.pk)["totals"]["requests"] == 0
    assert ask(viewer)["totals"]["requests"] == 0
    assert ask(admin)["totals"]["requests"] == 7
    assert ask(with_key("read", role=Role.OPERATOR))["totals"]["requests"] == 1


def test_a_key_that_only_calls_models_sees_nothing() -> None:
    _, key = ApiKey.issue(owner_id=user(Role.ADMIN).pk, name="script", scopes=["inference"])
    assert bearing(key).get("/usage").status_code == 403


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "9999-12-31T23:59:59-23:59"}, "from"),
        ({"to": "2026-13-01T00:00:00Z"}, "to"),
        ({"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"}, "to"),
        ({"from": "2026-03-02T00:00:00Z", "to": "2026-03-02T00:00:00Z"}, "to"),
        ({"key": "notebook"}, "key"),
        ({"model": ""}, "model"),
        ({"model": "a\0b"}, "model"),
        ({"group_by": "colour"}, "group_by"),
        ({"group_by": "key,key"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"page": "0"}, "page"),
        ({"page_size": "1000"}, "page_size"),
        ({"format": "csv", "page": "2"}, "page"),
        ({"modle": "acme/small"}, "modle"),
    ],
)
def test_it_names_what_is_wrong_with_a_question(admin: APIClient, query: dict[str, str], field: str) -> None:
    response = admin.get("/usage", query)
    assert response.status_code == 400
    assert response["Content-Type"] == "application/problem+json"
    assert [fault["field"] for fault in response.json()["errors"]] == [field]


@pytest.mark.parametrize("query", [{"page": "2"}, {"format": "xml"}])
def test_what_is_not_there_is_404(admin: APIClient, query: dict[str, str]) -> None:
    assert admin.get("/usage", query).status_code == 404


def test_long_answers_have_pages(admin: APIClient) -> None:
    for number in range(7):
        hour(hour=AT, model_id=f"m{number}")
    first = ask(admin, page_size=3)
    assert [row["model"] for row in first["results"]] == ["m0", "m1", "m2"]
    assert (first["count"], first["totals"]["requests"]) == (7, 70)
    last = ask(admin, page_size=3, page=3)
    assert ([row["model"] for row in last["results"]], last["next"]) == (["m6"], None)


# --- CSV ----------------------------------------------------------------------------------------------------------


def as_csv(client: APIClient, **query: Any) -> list[dict[str, str]]:
    response = client.get("/usage", {**MARCH, "format": "csv", **query})
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert "usage.csv" in response["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(response.content.decode())))


def test_a_csv_has_every_row_on_one_page(admin: APIClient) -> None:
    for number in range(60):
        hour(hour=AT, model_id=f"m{number:02}")
    rows = as_csv(admin, group_by="day,model")
    assert len(rows) == 60
    assert rows[1] == {
        "day": "2026-03-07T00:00:00Z",
        "model": "m01",
        "requests": "10",
        "errors": "0",
        "estimated": "1",
        "input_tokens": "1000",
        "output_tokens": "200",
        "cached_tokens": "300",
        "cost": "0.050000",
        "mean_duration_ms": "900",
        "mean_first_token_ms": "50",
    }


def test_a_csv_comes_by_the_header_accept_as_well(admin: APIClient) -> None:
    hour(hour=AT)
    response = admin.get("/usage", MARCH, headers={"Accept": "text/csv"})
    assert response.content.decode().splitlines()[1].startswith("acme/small,10,")


def test_a_csv_of_nothing_has_the_names_of_its_columns(admin: APIClient) -> None:
    assert as_csv(admin) == []
    text = admin.get("/usage", {**MARCH, "format": "csv", "group_by": "key,day"}).content.decode()
    assert text.startswith("key_id,key,day,requests,errors,")


def test_a_name_is_no_formula_to_a_spreadsheet(admin: APIClient) -> None:
    hour(hour=AT, key_id=issue(Role.ADMIN, '=HYPERLINK("http://example.com")').pk)
    (row,) = as_csv(admin, group_by="key")
    assert row["key"].startswith("'=")


# --- queries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", [{"group_by": "key,hour"}, {"group_by": "key", "format": "csv"}])
def test_it_asks_as_often_for_many_groups_as_for_few(
    admin: APIClient, query: dict[str, str], django_assert_num_queries: Callable[[int], Any]
) -> None:
    def grow(count: int) -> None:
        for number in range(count):
            hour(hour=AT, key_id=issue(Role.VIEWER, email=f"{number}-{count}@example.com").pk)

    grow(1)
    with CaptureQueriesContext(connection) as few:
        admin.get("/usage", {**MARCH, **query})
    grow(30)
    with django_assert_num_queries(len(few)):
        admin.get("/usage", {**MARCH, **query})
