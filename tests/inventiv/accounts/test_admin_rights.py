"""Every page of the admin, for everybody: who gets it, and that it shows no secret."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from catalog.models import CatalogSync, InstanceType, LlmModel, Provider, Region, SshKey, Zone
from fleet.models import (
    Attempt,
    ClockTick,
    Deployment,
    DeploymentRequest,
    Instance,
    Leak,
    ProviderAccount,
    Rental,
    Sweep,
    Transition,
)
from fleet.states import Status
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.models import ApiKey, RejectedUsage, UsageHour, UsageRecord
from tests.fleet import account_rows
from tests.fleet.admin import rows
from tests.routing.usage import rows as usage_rows

pytestmark = pytest.mark.django_db

ALL = frozenset(Role)
OPERATE = frozenset({Role.OPERATOR, Role.ADMIN})
ADMIN = frozenset({Role.ADMIN})
NOBODY: frozenset[Role] = frozenset()


@dataclass(frozen=True)
class Rights:
    """Who gets which page."""

    view: frozenset[Role]
    add: frozenset[Role]
    delete: frozenset[Role]

    def of(self, page: str) -> frozenset[Role]:
        return {"add": self.add, "delete": self.delete}.get(page, self.view)


EDITED = Rights(view=ALL, add=OPERATE, delete=OPERATE)
READ_ONLY = Rights(view=ALL, add=NOBODY, delete=NOBODY)

RIGHTS: dict[type[Model], Rights] = {
    User: Rights(view=ADMIN, add=ADMIN, delete=ADMIN),
    Provider: Rights(view=ALL, add=ADMIN, delete=ADMIN),
    Region: EDITED,
    Zone: EDITED,
    InstanceType: EDITED,
    LlmModel: EDITED,
    SshKey: EDITED,
    CatalogSync: Rights(view=ALL, add=NOBODY, delete=OPERATE),
    Instance: READ_ONLY,
    Deployment: Rights(view=ALL, add=OPERATE, delete=NOBODY),
    DeploymentRequest: READ_ONLY,
    Attempt: READ_ONLY,
    Transition: READ_ONLY,
    ClockTick: READ_ONLY,
    ProviderAccount: Rights(view=ADMIN, add=ADMIN, delete=ADMIN),
    Leak: READ_ONLY,
    Rental: READ_ONLY,
    Sweep: READ_ONLY,
    ApiKey: Rights(view=ALL, add=OPERATE, delete=NOBODY),
    UsageHour: READ_ONLY,
    UsageRecord: READ_ONLY,
    RejectedUsage: Rights(view=ADMIN, add=NOBODY, delete=NOBODY),
}

PAGES = ("changelist", "add", "change", "delete", "history")


@pytest.fixture(autouse=True)
def fleet(settings: Settings) -> None:
    """At least one row of everything."""
    settings.ENABLED_PROVIDERS = ["mock"]
    rows.catalogue()
    SshKey.objects.create(name="laptop", public_key="ssh-ed25519 AAAA", provider=Provider.objects.get(name="mock"))
    CatalogSync.objects.create(provider=Provider.objects.get(name="mock"))
    rows.instance_in(Status.READY)
    rows.tick("CLOCK:WAKE", period=2, seconds_ago=1)
    rows.leak()
    rows.sweep()
    rows.user(Role.VIEWER, "another")
    account_rows.account(provider="scaleway")
    RejectedUsage.objects.create(entry="1-0", ordinal=1, reason="nonsense", line="?", rejected_at=timezone.now())


def url_of(model: type[Model], page: str, row: Model) -> str:
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}"
    return reverse(name) if page in ("changelist", "add") else reverse(name, args=[quote(row.pk)])


def row_of(model: type[Model], owner: User | None) -> Model:
    if model is ApiKey and owner is not None:  # one sees one's own
        return ApiKey.issue(owner_id=owner.pk, name="script", scopes=["read"])[0]
    if model is ApiKey:
        return row_of(ApiKey, User.objects.get(email="another@example.com"))
    if model in (UsageHour, UsageRecord):  # what one's own key has used
        key = row_of(ApiKey, owner)
        return {UsageHour: usage_rows.hour, UsageRecord: usage_rows.record}[model](key_id=key.pk)
    if model is User:
        return User.objects.get(email="another@example.com")
    return model._default_manager.all()[0]


def test_every_registered_model_has_its_rights_named() -> None:
    assert set(admin.site._registry) == set(RIGHTS)


@pytest.mark.parametrize("model", RIGHTS, ids=lambda model: model.__name__)
def test_a_stranger_is_led_to_the_log_in(model: type[Model]) -> None:
    row = row_of(model, None)
    for page in PAGES:
        response = Client().get(url_of(model, page, row))
        assert response.status_code == 302, page
        assert response.headers["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("model", RIGHTS, ids=lambda model: model.__name__)
@pytest.mark.parametrize("role", Role)
def test_each_role_gets_the_pages_that_are_its_own_and_no_secret(role: Role, model: type[Model]) -> None:
    who = rows.user(role)
    row, client = row_of(model, who), rows.client_of(who)
    secrets = {
        *rows.SECRETS,
        account_rows.CANARY,
        getattr(row, "credentials", rows.LEASE),
        getattr(row, "sha256", rows.LEASE),
    }
    for page in PAGES:
        response = client.get(url_of(model, page, row))
        assert response.status_code == (200 if role in RIGHTS[model].of(page) else 403), page
        text = response.content.decode()
        assert not [secret for secret in secrets if secret in text], page


@pytest.mark.parametrize("model", RIGHTS, ids=lambda model: model.__name__)
def test_a_viewer_changes_nothing(model: type[Model]) -> None:
    viewer = rows.user(Role.VIEWER)
    client = rows.client_of(viewer)
    row = row_of(model, viewer)
    for page in ("add", "change", "delete"):
        assert client.post(url_of(model, page, row), {"post": "yes"}).status_code == 403


@pytest.mark.parametrize("model", [Instance, Deployment, DeploymentRequest, Attempt, Transition, ClockTick])
def test_nobody_edits_or_deletes_operational_rows(model: type[Model]) -> None:
    client = rows.client_of(rows.user(Role.ADMIN))
    row = row_of(model, None)
    for page in ("change", "delete"):
        assert client.post(url_of(model, page, row), {"post": "yes", "status": "READY"}).status_code == 403


@pytest.mark.parametrize("model", RIGHTS, ids=lambda model: model.__name__)
def test_a_row_that_does_not_exist_is_no_error(model: type[Model]) -> None:
    client = rows.client_of(rows.user(Role.ADMIN))
    for page in ("change", "history"):
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=["no-such-row"])
        assert client.get(url).status_code == 302


@pytest.mark.parametrize("role", [None, *Role])
def test_the_index_lists_what_a_role_may_see(role: Role | None, client: Client) -> None:
    if role is None:
        assert client.get(reverse("admin:index")).status_code == 302
        return
    text = rows.client_of(rows.user(role)).get(reverse("admin:index")).content.decode()
    assert (reverse("admin:accounts_user_changelist") in text) is (role == Role.ADMIN)
    assert (reverse("admin:fleet_provideraccount_changelist") in text) is (role == Role.ADMIN)
    assert reverse("admin:fleet_instance_changelist") in text
