"""The API against its own OpenAPI document: schemathesis calls every operation with data good and bad."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.db.models import Model
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from catalog.models import InstanceType, LlmModel, Provider, Region, SshKey, Zone
from fleet.models import Deployment, Instance
from inventiv.accounts.roles import Role
from inventiv.wsgi import application
from routing.models import ApiKey
from tests.inventiv.api_stage import MakeInstances, user

pytestmark = pytest.mark.django_db

schema: Any = schemathesis.openapi.from_wsgi("/api-docs/openapi.json", application).exclude(method="PUT")


@pytest.fixture(autouse=True)
def one_connection() -> Iterator[None]:
    """As Django's own test client does: a request's end must not close the connection that holds the test's data."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def key(make_instances: MakeInstances) -> str:
    make_instances(2)
    return ApiKey.issue(owner_id=user(Role.ADMIN).pk, name="schemathesis", scopes=["read", "write"])[1]


ROWS: dict[str, type[Model]] = {
    "deployments": Deployment,
    "instance-types": InstanceType,
    "instances": Instance,
    "models": LlmModel,
    "providers": Provider,
    "regions": Region,
    "ssh-keys": SshKey,
    "zones": Zone,
}


def aim(case: Case[Any]) -> None:
    """Point a made-up id at a row that is there. What is no id at all stays."""
    kind = ROWS.get(case.path.split("/")[1])
    row = kind._default_manager.first() if kind else None
    try:
        uuid.UUID(str(case.path_parameters["id"]))
    except (KeyError, ValueError):
        return
    if row is not None:
        case.path_parameters["id"] = str(row.pk)


@schema.parametrize()  # type: ignore[untyped-decorator]
@settings(
    max_examples=2,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_it_answers_as_documented(case: Case[Any], key: str) -> None:
    aim(case)
    case.call_and_validate(
        headers={"Authorization": f"Bearer {key}"},
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_headers_conformance,
            response_schema_conformance,
        ],
    )
