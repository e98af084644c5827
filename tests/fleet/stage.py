from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import redis
from django.conf import settings

from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, Zone
from fleet import commands, worker_keys
from fleet.commands import Actor, DeploymentOrder
from fleet.lifecycle import index, liveness, registration
from fleet.lifecycle.advance import take_step
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance
from fleet.states import Status
from routing.discovery import keys
from routing.discovery.publisher import Publisher
from tests.fleet.paper_cloud import PaperCloud

OPERATOR = Actor(name="olga@example.com")
AGENT_TOKEN = "agent-token-of-more-than-32-characters"


@dataclass
class Clock:
    at: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **delta: float) -> None:
        self.at += timedelta(**delta)


@dataclass(kw_only=True)
class Scene:
    """A world with one model and a few offers, and what a test does in it."""

    world: World
    redis: redis.Redis

    def deploy(self, **order: Any) -> Instance:
        request = commands.request_deployment(
            DeploymentOrder("acme/small", **order),
            actor=OPERATOR,
            now=self.world.now(),
        )
        return request.deployments.get().instance

    def step(self, instance: Instance, times: int = 1) -> Instance:
        for _ in range(times):
            take_step(instance.pk, self.world)
        instance.refresh_from_db()
        return instance

    def register(self, instance: Instance) -> str:
        attempt = Attempt.objects.filter(instance=instance).latest("ordinal")
        return registration.exchange(
            instance_id=instance.pk,
            bootstrap_token=worker_keys.bootstrap_token(attempt.pk),
            agent_token=AGENT_TOKEN,
            address=str(Instance.objects.get(pk=instance.pk).ip_address),
            now=self.world.now(),
            world=self.world,
        ).engine_api_key

    def heartbeat(self, *instances: Instance, ready: bool = True, load: int = 0) -> None:
        """What the router writes when a worker is heard (see routing.discovery.directory)."""
        for instance in instances:
            self.redis.hset(
                keys.instance(str(instance.pk)),
                mapping={
                    "last_heartbeat": self.world.now().timestamp(),
                    "ready": int(ready),
                    "worker_load": load,
                    "current_load": load,
                },
            )

    def router_is_up_since(self, at: datetime) -> None:
        self.redis.sadd(keys.ROUTERS, "r1")
        self.redis.set(keys.router("r1"), at.isoformat())

    def ready(self, **order: Any) -> Instance:
        """An instance that serves."""
        instance = self.step(self.deploy(**order))
        assert instance.status == Status.BOOTING, instance.status_reason
        self.register(instance)
        index.publish(instance, self.world)
        self.heartbeat(instance)
        liveness.read_heartbeats(self.world)
        self.step(instance)  # the one look that follows: whether an end was asked for meanwhile
        assert instance.status == Status.READY
        return instance

    def moves(self, instance: Instance) -> list[str]:
        return [transition.to_status for transition in instance.transitions.order_by("id")]


@dataclass(kw_only=True)
class Stage(Scene):
    """A scene on paper."""

    clock: Clock
    cloud: PaperCloud


@pytest.fixture
def stage(db: None) -> Iterator[Stage]:
    provider = Provider.objects.create(name="mock")
    region = Region.objects.create(provider=provider, name="eu")
    zones = [Zone.objects.create(region=region, name=f"eu-{number}") for number in (1, 2)]
    for name, vram, price in (("SMALL", 24, "1"), ("LARGE", 80, "3")):
        kind = InstanceType.objects.create(
            provider=provider, name=name, gpu_name=name, gpu_count=1, vram_per_gpu_gb=vram
        )
        for zone in zones:
            InstanceAvailability.objects.create(
                instance_type=kind, zone=zone, price_per_hour=Decimal(price), currency="EUR", stock="available"
            )
    a_small_model()
    clock = Clock()
    cloud = PaperCloud(now=clock)
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    client.flushdb()
    publisher = Publisher(client)
    world = World(now=clock, provider=lambda name, account: cloud, publisher=publisher, chance=lambda: 0.0)
    yield Stage(clock=clock, cloud=cloud, world=world, redis=client)
    client.flushdb()
    client.close()


def a_small_model() -> LlmModel:
    return LlmModel.objects.create(
        name="Small", model_id="acme/small", required_vram_gb=4, context_length=8192, parameters=1_000_000_000
    )
