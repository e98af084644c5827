"""Every route against every kind of caller. A route that is not in the table fails the test."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from inventiv.accounts.roles import Role
from tests.inventiv.api_stage import session, with_key

pytestmark = pytest.mark.django_db

CATALOGUE = ["instance-types", "models", "providers", "regions", "ssh-keys", "zones"]
SEES, WORKS, RULES = Role.VIEWER, Role.OPERATOR, Role.ADMIN
RANK = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]

# Route -> the least role that may call it, and the scope that an API key needs.
ROUTES: dict[tuple[str, str], tuple[Role, str]] = {
    ("get", "/me"): (SEES, "read"),
    ("get", "/instances"): (SEES, "read"),
    ("get", "/instances/{id}"): (SEES, "read"),
    ("delete", "/instances/{id}"): (WORKS, "write"),
    ("get", "/deployments"): (SEES, "read"),
    ("get", "/deployments/{id}"): (SEES, "read"),
    ("post", "/deployments"): (WORKS, "write"),
    ("post", "/deployments/plan"): (SEES, "read"),
    ("post", "/deployments/{id}/retry"): (WORKS, "write"),
    ("get", "/provider-accounts"): (RULES, "read"),
    ("get", "/provider-accounts/{id}"): (RULES, "read"),
    ("get", "/catalog/sync"): (SEES, "read"),
    ("post", "/catalog/sync"): (WORKS, "write"),
    ("get", "/leaks"): (SEES, "read"),
    ("get", "/leaks/{id}"): (SEES, "read"),
    ("get", "/rentals"): (SEES, "read"),
    ("get", "/rentals/{id}"): (SEES, "read"),
    ("get", "/sweeps"): (SEES, "read"),
    ("get", "/api-keys"): (SEES, "read"),
    ("get", "/api-keys/{id}"): (SEES, "read"),
    ("post", "/api-keys"): (WORKS, "write"),
    ("delete", "/api-keys/{id}"): (WORKS, "write"),
    ("get", "/usage"): (SEES, "read"),
    ("patch", "/api-keys/{id}"): (WORKS, "write"),
    ("put", "/instance-types/{id}/availability/{zone_id}"): (WORKS, "write"),
    ("delete", "/instance-types/{id}/availability/{zone_id}"): (WORKS, "write"),
    **{("get", f"/{name}"): (SEES, "read") for name in CATALOGUE},
    **{("get", f"/{name}/{{id}}"): (SEES, "read") for name in CATALOGUE},
    **{("post", f"/{name}"): (RULES if name == "providers" else WORKS, "write") for name in CATALOGUE},
    **{
        (method, f"/{name}/{{id}}"): (RULES if name == "providers" else WORKS, "write")
        for name in CATALOGUE
        for method in ("put", "patch", "delete")
    },
}

IN, OUT, KEPT_OUT = "let in", 401, 403


def by_role(role: Role) -> Callable[[Role, str], object]:
    return lambda least, scope: IN if RANK.index(role) >= RANK.index(least) else KEPT_OUT


def by_scope(*scopes: str) -> Callable[[Role, str], object]:
    return lambda least, scope: IN if scope in scopes else KEPT_OUT


CALLERS: dict[str, tuple[Callable[[], APIClient], Callable[[Role, str], object]]] = {
    "anonymous": (APIClient, lambda least, scope: OUT),
    "viewer": (lambda: session(Role.VIEWER), by_role(Role.VIEWER)),
    "operator": (lambda: session(Role.OPERATOR), by_role(Role.OPERATOR)),
    "admin": (lambda: session(Role.ADMIN), by_role(Role.ADMIN)),
    "inference key": (lambda: with_key("inference"), by_scope()),
    "read key": (lambda: with_key("read"), by_scope("read")),
    "write key": (lambda: with_key("write"), by_scope("write")),
    "a viewer's key": (lambda: with_key("read", "write", role=Role.VIEWER), by_role(Role.VIEWER)),
    "expired key": (lambda: with_key("read", "write", expired=True), lambda least, scope: OUT),
    "revoked key": (lambda: with_key("read", "write", revoked=True), lambda least, scope: OUT),
}


def test_the_table_has_every_route() -> None:
    spec = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    found = {(method, path) for path, operations in spec["paths"].items() for method in operations}
    assert found == set(ROUTES)


@pytest.mark.parametrize("prefix", ["", "/api/backend"])
@pytest.mark.parametrize("caller", CALLERS)
def test_a_route_lets_in_whom_it_should(caller: str, prefix: str) -> None:
    make, rule = CALLERS[caller]
    client = make()

    def outcome(method: str, path: str) -> object:
        # Nothing has this id: who is let in gets 404 or is told of an empty body.
        address = prefix + path.format(id=uuid.UUID(int=0), zone_id=uuid.UUID(int=0))
        status = getattr(client, method)(address, {}).status_code
        return status if status in (OUT, KEPT_OUT) else IN

    expected = {route: rule(least, scope) for route, (least, scope) in ROUTES.items()}
    assert {route: outcome(*route) for route in ROUTES} == expected
