"""Errors as problems (RFC 9457), wherever they come from."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from rest_framework.test import APIClient

from inventiv.api.problems import problem_response
from tests.inventiv.api_stage import Catalogue, MakeInstances

pytestmark = pytest.mark.django_db


def check(response: Any, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) >= {"type", "title", "status", "detail", "instance", "errors"}
    assert (body["type"], body["status"]) == (f"urn:inventiv:problem:{code}", status)
    return body


def test_an_unknown_address(admin: APIClient) -> None:
    body = check(admin.get("/nowhere"), 404, "not_found")
    assert (body["title"], body["instance"], body["errors"]) == ("Not Found", "/nowhere", [])


def test_an_unknown_address_below_a_known_one(admin: APIClient) -> None:
    check(admin.get("/instances/00000000-0000-0000-0000-000000000000/nowhere"), 404, "not_found")


def test_a_person_in_the_admin_gets_a_page(admin: APIClient) -> None:
    response = admin.get("/admin/nowhere/")
    assert response.status_code == 404
    assert response["Content-Type"].startswith("text/html")


def test_a_method_that_is_not_there(admin: APIClient) -> None:
    response = admin.put("/instances", {})
    check(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]


def test_the_viewer_too_learns_that_a_method_is_not_there(viewer: APIClient) -> None:
    check(viewer.put("/instances", {}), 405, "method_not_allowed")


def test_an_answer_that_we_cannot_give(admin: APIClient) -> None:
    check(admin.get("/instances", headers={"Accept": "text/csv"}), 406, "not_acceptable")


def test_a_host_that_is_not_ours() -> None:
    check(Client(headers={"Host": "evil.example.com"}).get("/instances"), 400, "bad_request")


def test_what_others_refer_to_is_not_deleted(admin: APIClient, make_instances: MakeInstances, catalogue: Any) -> None:
    make_instances(1)
    check(admin.delete(f"/instance-types/{catalogue.cheap.pk}"), 409, "in_use")


def test_what_is_there_already_is_named(admin: APIClient, catalogue: Catalogue) -> None:
    body = check(admin.post("/providers", {"name": "mock"}), 400, "invalid")
    assert body["errors"] == [{"field": "name", "message": "provider with this name already exists.", "code": "unique"}]
    assert body["detail"] == "name: provider with this name already exists."


def test_several_faults_are_all_named(admin: APIClient, catalogue: Catalogue) -> None:
    body = check(admin.post("/deployments", {"model": "", "replicas": 0}), 400, "invalid")
    assert [fault["field"] for fault in body["errors"]] == ["model", "replicas"]


def test_a_filter_that_says_nothing_does_not_list_everything(admin: APIClient, catalogue: Catalogue) -> None:
    body = check(admin.get("/models?is_active=maybe"), 400, "invalid")
    assert [fault["field"] for fault in body["errors"]] == ["is_active"]


# --- the body's size ------------------------------------------------------------------------------------------------


class Endless:
    """A body of any size, which tells how much of it was asked for at once and in all."""

    def __init__(self) -> None:
        self.largest = self.taken = 0

    def read(self, count: int) -> bytes:
        self.largest, self.taken = max(self.largest, count), self.taken + count
        return b"x" * count

    readline = read


@pytest.mark.parametrize("path", ["/deployments", "/admin/login/", "/internal/workers/bootstrap", "/nowhere"])
def test_a_body_that_is_too_large_is_refused_and_not_kept(client: Client, path: str) -> None:
    body, size = Endless(), 50 * 1024 * 1024
    large: dict[str, Any] = {"CONTENT_LENGTH": str(size), "wsgi.input": body}
    check(client.post(path, content_type="application/json", **large), 413, "too_large")
    assert body.taken == size  # or the client would see a broken pipe
    assert body.largest <= 64 * 1024


def test_a_body_that_is_far_too_large_is_not_waited_for(client: Client) -> None:
    body = Endless()
    large: dict[str, Any] = {"CONTENT_LENGTH": str(10**15), "wsgi.input": body}
    check(client.post("/deployments", content_type="application/json", **large), 413, "too_large")
    assert body.taken <= 64 * 1024 * 1024


def test_a_body_without_a_length_is_refused(client: Client) -> None:
    chunked: dict[str, Any] = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": Endless()}
    check(client.post("/deployments", content_type="application/json", **chunked), 411, "length_required")


def test_a_body_of_a_million_bytes_is_read(admin: APIClient) -> None:
    check(admin.post("/deployments", {"model": "m" * 1_000_000}), 400, "invalid")


# --- our own faults -------------------------------------------------------------------------------------------------


def test_a_database_that_is_away_is_not_a_riddle(admin: APIClient, caplog: pytest.LogCaptureFixture) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("connection refused by 10.0.0.5")

    with connection.execute_wrapper(away):
        response = APIClient(HTTP_AUTHORIZATION="Bearer inv_x").get("/instances")
    body = check(response, 503, "unavailable")
    assert response["Retry-After"] == "2"
    assert "10.0.0.5" not in str(body)


def test_a_bug_tells_the_log_and_not_the_caller(rf: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = problem_response(RuntimeError("canary"), {"request": rf.get("/instances")})
    assert response.status_code == 500
    assert "canary" not in str(response.data)
    assert "canary" in caplog.text
