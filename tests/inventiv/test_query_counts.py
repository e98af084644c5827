"""A list asks the database as often for thirty rows as for one."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from catalog.models import CatalogSync, InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone
from fleet.models import Instance, Leak, ProviderAccount, Rental, Sweep
from inventiv.accounts.roles import Role
from routing.models import ApiKey
from tests.inventiv.api_stage import MakeInstances, user

pytestmark = pytest.mark.django_db

MANY = 30
LISTS = [
    "/api-keys",
    "/catalog/sync",
    "/deployments",
    "/instance-types",
    "/instances",
    "/leaks",
    "/models",
    "/provider-accounts",
    "/providers",
    "/regions",
    "/rentals",
    "/ssh-keys",
    "/sweeps",
    "/zones",
]


def add_rows(count: int, make_instances: MakeInstances) -> None:
    for instance in make_instances(count):
        add_money(instance)
    for _ in range(count):
        number = Provider.objects.count()
        provider = Provider.objects.create(name=f"p{number}")
        zone = Zone.objects.create(region=Region.objects.create(provider=provider, name="r"), name="z")
        kind = InstanceType.objects.create(provider=provider, name="t", gpu_name="g", gpu_count=1, vram_per_gpu_gb=24)
        InstanceAvailability.objects.create(instance_type=kind, zone=zone, price_per_hour=1, currency="EUR")
        ProviderAccount.objects.create(provider=provider, name="a", credentials="sealed")
        CatalogSync.objects.create(provider=provider, zone=zone)
        SshKey.objects.create(provider=provider, name="k", public_key="ssh-ed25519 AAAA k")
        LlmModel.objects.create(name="m", model_id=f"m/{number}", required_vram_gb=1, context_length=1024, parameters=1)
        ApiKey.issue(owner_id=user(Role.VIEWER, f"{number}@example.com").pk, name="k", scopes=["read"])


def add_money(instance: Instance) -> None:
    """What it rents, of which something leaks, in an account of its own that is swept."""
    now = timezone.now()
    account = ProviderAccount.objects.create(provider=instance.provider, name=str(instance.pk), credentials="sealed")
    rental = Rental.objects.create(
        provider=instance.provider,
        account=account,
        zone=instance.zone,
        kind="server",
        resource_id=str(instance.pk),
        attempt=instance.attempts.get(),
        price_per_hour=1,
        currency="EUR",
        since=now,
    )
    Leak.objects.create(rental=rental, reason="test", found_at=now, next_attempt_at=now)
    Sweep.objects.create(account=account, zone=instance.zone, next_attempt_at=now)


def look(client: APIClient, path: str) -> tuple[int, int]:
    """How many rows a list has, and how many queries they took."""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.get(path, {"page_size": 200})
    assert response.status_code == 200, response.json()
    return len(response.json()["results"]), len(queries)


@pytest.mark.parametrize("path", LISTS)
def test_it_asks_as_often_for_many_rows_as_for_few(admin: APIClient, make_instances: MakeInstances, path: str) -> None:
    add_rows(1, make_instances)
    few, queries_for_few = look(admin, path)
    add_rows(MANY, make_instances)
    many, queries_for_many = look(admin, path)

    assert many >= few + MANY
    assert queries_for_many == queries_for_few


def test_one_instance_takes_the_same_whatever_its_history(admin: APIClient, make_instances: MakeInstances) -> None:
    (instance,) = make_instances(1)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert admin.get(f"/instances/{instance.pk}").status_code == 200
        return len(captured)

    before = queries()
    attempt = instance.attempts.get()
    attempt.outcome = "rejected"
    attempt.save()
    for ordinal in range(2, 12):
        attempt.pk, attempt.ordinal, attempt._state.adding = None, ordinal, True
        attempt.save()
    assert queries() == before
