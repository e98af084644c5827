from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from openapi_spec_validator import validate


@pytest.fixture
def spec(client: Client) -> dict[str, Any]:
    response = client.get("/api-docs/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = response.json()
    return document


def test_the_spec_is_valid(spec: dict[str, Any]) -> None:
    validate(spec)


def test_the_spec_is_made_without_a_warning(tmp_path: Path) -> None:
    call_command("spectacular", file=str(tmp_path / "spec.yaml"), fail_on_warn=True, validate=True)


def test_every_address_is_listed_once_and_none_of_our_own_machines(spec: dict[str, Any]) -> None:
    assert "/deployments" in spec["paths"]
    assert not [path for path in spec["paths"] if path.startswith(("/api/", "/api-docs", "/internal"))]


def test_every_operation_tells_of_its_problems(spec: dict[str, Any]) -> None:
    for operations in spec["paths"].values():
        for operation in operations.values():
            assert {"401", "403", "default"} <= set(operation["responses"])


def test_the_closed_list_of_operations_says_what_they_are_for(spec: dict[str, Any]) -> None:
    assert spec["paths"]["/deployments"]["post"]["summary"] == "Ask for a model on `replicas` instances"
    assert spec["paths"]["/rentals"]["get"]["summary"].startswith("The ledger: everything that was ever billed")


def test_both_ways_of_logging_in_are_told(spec: dict[str, Any]) -> None:
    schemes = spec["components"]["securitySchemes"]
    assert {(scheme["type"], scheme.get("scheme")) for scheme in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", None),
    }


@pytest.fixture
def collected(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    call_command("collectstatic", verbosity=0, interactive=False)


def test_swagger_needs_nothing_from_elsewhere(collected: None) -> None:
    client = Client()
    page = client.get("/swagger-ui")
    assert page.status_code == 200
    files = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    assert len(files) >= 3
    for file in files:
        assert file.startswith("/static/"), file
        assert client.get(file).status_code == 200, file


@pytest.mark.parametrize(
    ("path", "target"),
    [("/", "/admin/"), ("/swagger-ui/", "/swagger-ui"), ("/api-docs/", "/swagger-ui")],
)
def test_the_addresses_that_people_try_lead_somewhere(client: Client, path: str, target: str) -> None:
    assert client.get(path)["Location"] == target
