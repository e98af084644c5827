"""A small catalogue, and browsers in which somebody of each role has logged in."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

import pytest
from django.test import Client
from rest_framework.test import APIClient

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, SshKey, Zone
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4 ops@example.com"


@dataclass(frozen=True)
class Stage:
    """`scaleway` with two zones, of which one has the L4; `aws` with a zone that has nothing."""

    scaleway: Provider
    aws: Provider
    region: Region
    zone: Zone  # has the L4
    bare_zone: Zone  # of the same provider
    aws_zone: Zone
    l4: InstanceType
    h100: InstanceType  # nowhere to be had
    model: LlmModel
    ssh_key: SshKey

    @property
    def offer(self) -> InstanceAvailability:
        return InstanceAvailability.objects.get(instance_type=self.l4, zone=self.zone)


@pytest.fixture
def stage(db: None) -> Stage:
    scaleway, aws = (Provider.objects.create(name=name) for name in ("scaleway", "aws"))
    region = Region.objects.create(provider=scaleway, name="fr-par")
    zone, bare_zone = (Zone.objects.create(region=region, name=name) for name in ("fr-par-1", "fr-par-2"))
    aws_zone = Zone.objects.create(region=Region.objects.create(provider=aws, name="us-east-1"), name="us-east-1a")
    l4, h100 = (
        InstanceType.objects.create(provider=scaleway, name=name, gpu_name=gpu, gpu_count=1, vram_per_gpu_gb=vram)
        for name, gpu, vram in (("L4-1-24G", "L4", 24), ("H100-1-80G", "H100", 80))
    )
    InstanceAvailability.objects.create(
        instance_type=l4, zone=zone, price_per_hour=Decimal("0.7875"), currency="EUR", stock="scarce"
    )
    return Stage(
        scaleway=scaleway,
        aws=aws,
        region=region,
        zone=zone,
        bare_zone=bare_zone,
        aws_zone=aws_zone,
        l4=l4,
        h100=h100,
        model=make_model("meta-llama/Llama-3.1-8B-Instruct"),
        ssh_key=SshKey.objects.create(provider=scaleway, name="ops", public_key=ED25519),
    )


def make_model(model_id: str, **columns: object) -> LlmModel:
    shape = {"layers": 32, "attention_heads": 32, "kv_heads": 8, "head_dim": 128}
    facts = {"name": model_id, "parameters": 8_030_261_248, "context_length": 131072, "required_vram_gb": 20}
    return LlmModel.objects.create(model_id=model_id, **{**facts, **shape, **columns})


Browser = TypeVar("Browser", bound=Client)


def browser(role: Role, client: Browser) -> Browser:
    """The client, in which somebody of this role has logged in."""
    user, _ = User.objects.get_or_create(email=f"{role}@example.com", defaults={"role": role})
    client.force_login(user)
    return client


@pytest.fixture
def admin(db: None) -> APIClient:
    return browser(Role.ADMIN, APIClient())


@pytest.fixture
def operator(db: None) -> APIClient:
    return browser(Role.OPERATOR, APIClient())


@pytest.fixture
def viewer(db: None) -> APIClient:
    return browser(Role.VIEWER, APIClient())
