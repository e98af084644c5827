"""Rows for the admin's tests: users of each role, a small catalogue, a fleet."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.test import Client
from django.utils import timezone

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, Zone
from fleet import commands
from fleet.commands import Actor, DeploymentOrder
from fleet.models import Attempt, ClockTick, Deployment, Instance, Leak, Rental, Sweep
from fleet.states import Status
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role

MODEL = "acme/small"

# What no page may ever contain.
SEALED_KEY = "gAAAAA-canary-sealed-key"
AGENT_HASH = "canaryagenthash".ljust(64, "0")
BOOTSTRAP_HASH = "canarybootstraphash".ljust(64, "0")
LEASE = "ca0a12ca-0a12-4a12-8a12-ca0a12ca0a12"
SECRETS = (SEALED_KEY, AGENT_HASH, BOOTSTRAP_HASH, LEASE)


def user(role: Role, name: str = "") -> User:
    """Without a password, which would take a third of a second to hash: tests log in by force."""
    return User.objects.create_user(f"{name or role.value}@example.com", role=role)


def client_of(who: User) -> Client:
    client = Client()
    client.force_login(who)
    return client


def catalogue() -> LlmModel:
    """One model that fits LARGE, which two zones have at 3 EUR and 3.5 EUR, and not TINY."""
    provider = Provider.objects.create(name="mock")
    region = Region.objects.create(provider=provider, name="eu")
    first, second = (Zone.objects.create(region=region, name=name) for name in ("eu-1", "eu-2"))
    large, tiny = (
        InstanceType.objects.create(provider=provider, name=name, gpu_name="H100", gpu_count=1, vram_per_gpu_gb=vram)
        for name, vram in (("LARGE", 80), ("TINY", 4))
    )
    for kind, zone, price in ((large, first, "3"), (large, second, "3.5"), (tiny, first, "0.5")):
        InstanceAvailability.objects.create(
            instance_type=kind, zone=zone, price_per_hour=Decimal(price), currency="EUR", stock="available"
        )
    return LlmModel.objects.create(
        name="Small", model_id=MODEL, required_vram_gb=16, context_length=8192, parameters=1_000_000_000
    )


def deploy(replicas: int = 1, by: User | None = None) -> list[Deployment]:
    """Deployments of the catalogue's model, by the command; their instances hold canaries for secrets."""
    actor = Actor(by.email, by.pk) if by else Actor("a script")
    asked = commands.request_deployment(DeploymentOrder(MODEL, replicas=replicas), actor=actor, now=timezone.now())
    instances = Instance.objects.filter(deployment__request=asked)
    instances.update(api_key=SEALED_KEY, agent_token_sha256=AGENT_HASH, lock_token=LEASE)
    for instance in instances:
        _attempt(instance)
    return list(asked.deployments.select_related("instance"))


_WAY = {
    Status.PROVISIONING: [],
    Status.BOOTING: [Status.BOOTING],
    Status.READY: [Status.BOOTING, Status.READY],
    Status.DRAINING: [Status.BOOTING, Status.READY, Status.DRAINING],
    Status.FAILED: [Status.BOOTING, Status.FAILED],
    Status.TERMINATED: [Status.DRAINING, Status.TERMINATED],
}


def instance_in(status: Status, **fields: Any) -> Instance:
    """An instance that is deployed and has come to `status`."""
    instance = deploy()[0].instance
    for step in _WAY[status]:
        at = timezone.now()
        more: dict[str, Any] = {"terminated_at": at} if step == Status.TERMINATED else {}
        assert instance.move(step, reason=f"now {step.lower()}", actor="orchestrator", at=at, **more)
    Instance.objects.filter(pk=instance.pk).update(**fields)
    instance.refresh_from_db()
    return instance


def tick(name: str, *, period: float, seconds_ago: float) -> ClockTick:
    at = timezone.now() - timedelta(seconds=seconds_ago)
    return ClockTick.objects.create(name=name, period_seconds=period, ticked_at=at)


def leak(kind: str = "server", **fields: Any) -> Leak:
    """A thing of the mock's that nobody claims, rented for two hours at 3 EUR."""
    now = timezone.now()
    zone = Zone.objects.get(name="eu-1")
    rental = Rental.objects.create(
        provider=zone.region.provider,
        zone=zone,
        kind=kind,
        resource_id=f"{kind}-{Rental.objects.count() + 1}",
        price_per_hour=Decimal(3),
        currency="EUR",
        since=now - timedelta(hours=2),
        until=now if fields.get("ended_at") else None,
    )
    beginning = {"reason": "there is no such attempt", "found_at": now, "next_attempt_at": now, "lock_token": LEASE}
    return Leak.objects.create(rental=rental, **{**beginning, **fields})


def sweep(*, seconds_ago: float = 1, **fields: Any) -> Sweep:
    at = timezone.now() - timedelta(seconds=seconds_ago)
    zone = Zone.objects.get(name="eu-1")
    return Sweep.objects.create(
        zone=zone, known_since=at, swept_at=at, complete_at=at, next_attempt_at=at, lock_token=LEASE, **fields
    )


def _attempt(instance: Instance) -> Attempt:
    return Attempt.objects.create(
        instance=instance,
        ordinal=1,
        instance_type=instance.instance_type,
        zone=instance.zone,
        price_per_hour=instance.price_per_hour,
        currency=instance.currency,
        bootstrap_sha256=BOOTSTRAP_HASH,
        started_at=timezone.now(),
    )
