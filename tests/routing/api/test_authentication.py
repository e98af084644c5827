from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.models import ApiKey
from tests.inventiv.api_stage import bearing, session, user, with_key

pytestmark = pytest.mark.django_db


def test_a_key_speaks_for_its_owner() -> None:
    answer = with_key("read", "write", role=Role.OPERATOR).get("/me").json()
    assert (answer["email"], answer["role"], answer["scopes"]) == (
        "operator@example.com",
        "operator",
        ["read", "write"],
    )


def test_a_session_has_no_scopes_that_limit_it() -> None:
    assert session(Role.VIEWER).get("/me").json()["scopes"] is None


@pytest.mark.parametrize(
    ("client", "code"),
    [
        (lambda: with_key("read", expired=True), "expired_key"),
        (lambda: with_key("read", revoked=True), "revoked_key"),
        (lambda: bearing("inv_" + "x" * 43), "invalid_key"),
        (lambda: bearing("sk-something-else"), "invalid_key"),
        (lambda: bearing(""), "invalid_key"),
        (lambda: bearing("inv_\u00e9\u00ff"), "invalid_key"),
        (APIClient, "not_authenticated"),
    ],
)
def test_it_says_why_a_caller_is_not_known(client: object, code: str) -> None:
    response = client().get("/instances")  # type: ignore[operator]
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == f"urn:inventiv:problem:{code}"


def test_a_key_dies_with_its_owners_account() -> None:
    client = with_key("read")
    User.objects.update(is_active=False)
    assert client.get("/me").status_code == 401


def test_a_bad_key_is_not_covered_by_a_good_session() -> None:
    client = session(Role.ADMIN)
    client.credentials(HTTP_AUTHORIZATION="Bearer inv_wrong")
    assert client.get("/me").status_code == 401


def test_the_scheme_is_read_in_any_case() -> None:
    _, key = ApiKey.issue(owner_id=user(Role.VIEWER).pk, name="script", scopes=["read"])
    assert APIClient().get("/me", headers={"Authorization": f"bearer {key}"}).status_code == 200
