"""A small catalogue, a fleet of any size, and callers of every kind, for the tests of the REST API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone
from fleet.models import Attempt, Deployment, DeploymentRequest, Instance, Transition
from fleet.states import Status
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.models import ApiKey

SEALED_ENGINE_KEY = "canary-sealed-engine-key"
AGENT_TOKEN_SHA256 = "ca9a" * 16
BOOTSTRAP_SHA256 = "b007" * 16


@dataclass(frozen=True)
class Catalogue:
    model: LlmModel  # fits the cheap and the dear type
    giant: LlmModel  # fits nothing
    mock: Provider
    other: Provider
    zone: Zone
    other_zone: Zone
    cheap: InstanceType
    dear: InstanceType
    ssh_key: SshKey


@pytest.fixture
def catalogue(db: None, settings: Any) -> Catalogue:
    settings.ENABLED_PROVIDERS = ["mock", "scaleway"]
    mock, other = (Provider.objects.create(name=name) for name in ("mock", "scaleway"))
    zone = Zone.objects.create(region=Region.objects.create(provider=mock, name="eu"), name="eu-1")
    other_zone = Zone.objects.create(region=Region.objects.create(provider=other, name="fr-par"), name="fr-par-2")
    cheap, dear = (_type(mock, name, vram=vram) for name, vram in (("CHEAP", 24), ("DEAR", 80)))
    for kind, place, price in (
        (cheap, zone, "1"),
        (dear, zone, "3"),
        (_type(other, "H100-1-80G", vram=80), other_zone, "2.5"),
    ):
        InstanceAvailability.objects.create(
            instance_type=kind, zone=place, price_per_hour=Decimal(price), currency="EUR", stock="available"
        )
    return Catalogue(
        model=_model("acme/small", parameters=1_000_000_000),
        giant=_model("acme/giant", parameters=2_000_000_000_000),
        mock=mock,
        other=other,
        zone=zone,
        other_zone=other_zone,
        cheap=cheap,
        dear=dear,
        ssh_key=SshKey.objects.create(name="ops", public_key="ssh-ed25519 AAAA ops", provider=mock),
    )


def _type(provider: Provider, name: str, *, vram: int) -> InstanceType:
    return InstanceType.objects.create(provider=provider, name=name, gpu_name=name, gpu_count=1, vram_per_gpu_gb=vram)


def _model(model_id: str, *, parameters: int) -> LlmModel:
    return LlmModel.objects.create(
        name=model_id, model_id=model_id, required_vram_gb=4, context_length=8192, parameters=parameters
    )


MakeInstances = Callable[..., list[Instance]]


@pytest.fixture
def make_instances(catalogue: Catalogue) -> MakeInstances:
    """`make_instances(3, status=...)`: instances with their deployment, a transition and an attempt each."""

    def make(count: int, *, status: Status = Status.READY) -> list[Instance]:
        return [_instance(catalogue, status) for _ in range(count)]

    return make


def _instance(catalogue: Catalogue, status: Status) -> Instance:
    now = timezone.now()
    instance = Instance.objects.create(
        provider=catalogue.mock,
        zone=catalogue.zone,
        instance_type=catalogue.cheap,
        gpu_profile={"name": "CHEAP", "vram": 24},
        price_per_hour=Decimal(1),
        currency="EUR",
        status=status,
        terminated_at=now if status == Status.TERMINATED else None,
        next_attempt_at=now,
        api_key=SEALED_ENGINE_KEY,
        agent_token_sha256=AGENT_TOKEN_SHA256,
        ip_address="127.77.0.9",
    )
    request = DeploymentRequest.objects.create(
        model=catalogue.model,
        context_length=4096,
        concurrency=1,
        plan={"ranked": [], "rejected": []},
        actor="olga@example.com",
        fingerprint="f" * 64,
    )
    Deployment.objects.create(request=request, model=catalogue.model, instance=instance)
    Transition.objects.create(
        instance=instance, from_status="", to_status=Status.PROVISIONING, reason="deploy", actor="olga", at=now
    )
    Attempt.objects.create(
        instance=instance,
        ordinal=1,
        instance_type=catalogue.cheap,
        zone=catalogue.zone,
        price_per_hour=Decimal(1),
        currency="EUR",
        started_at=now,
        bootstrap_sha256=BOOTSTRAP_SHA256,
    )
    return instance


# --- callers ------------------------------------------------------------------------------------------------------


def user(role: Role, email: str = "") -> User:
    return User.objects.get_or_create(email=email or f"{role}@example.com", defaults={"role": role})[0]


def session(role: Role) -> APIClient:
    """A browser in which a user of this role has logged in."""
    client = APIClient()
    client.force_login(user(role))
    return client


def with_key(*scopes: str, role: Role = Role.ADMIN, expired: bool = False, revoked: bool = False) -> APIClient:
    """A program with an API key of these scopes, whose owner has this role."""
    row, key = ApiKey.issue(owner_id=user(role).pk, name="script", scopes=list(scopes))
    now = timezone.now()
    ApiKey.objects.filter(pk=row.pk).update(
        expires_at=now - timedelta(seconds=1) if expired else None, revoked_at=now if revoked else None
    )
    return bearing(key)


def bearing(key: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


@pytest.fixture
def admin(db: None) -> APIClient:
    return session(Role.ADMIN)


@pytest.fixture
def operator(db: None) -> APIClient:
    return session(Role.OPERATOR)


@pytest.fixture
def viewer(db: None) -> APIClient:
    return session(Role.VIEWER)


@pytest.fixture
def anonymous() -> APIClient:
    return APIClient()
