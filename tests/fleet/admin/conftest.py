from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import Settings

from catalog.models import LlmModel
from inventiv.accounts.roles import Role
from tests.fleet.admin import rows


@pytest.fixture(autouse=True)
def model(db: None, settings: Settings) -> LlmModel:
    settings.ENABLED_PROVIDERS = ["mock"]
    return rows.catalogue()


@pytest.fixture
def operator() -> Client:
    return rows.client_of(rows.user(Role.OPERATOR))


@pytest.fixture
def viewer() -> Client:
    return rows.client_of(rows.user(Role.VIEWER))
