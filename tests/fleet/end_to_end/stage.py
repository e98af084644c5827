"""A stage whose cloud is at the other end of a wire, with the catalogue that a sync with it makes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
import redis
from django.conf import settings as project

from catalog.placement import Limits
from fleet import accounts, commands
from fleet.lifecycle import catalogue, due, garbage_collection, index, liveness
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance, Rental
from fleet.providers.base import TAG_ATTEMPT, TAG_INSTANCE, TAG_OWNER, Provider
from fleet.states import Status
from routing.discovery.publisher import Publisher
from tests.fleet.end_to_end.clouds import Cloud, Line, open_cloud
from tests.fleet.stage import OPERATOR, Scene, a_small_model

ROUTER = "203.0.113.7/32"


@dataclass(kw_only=True)
class WiredStage(Scene):
    cloud: Cloud

    # --- the clock ------------------------------------------------------------------------------------------------

    def let_pass(self, seconds: int, *, every: int = 1) -> None:
        """Time passes, and whatever becomes due is done: what the clocks of the orchestrator do."""
        for _ in range(0, seconds, every):
            self.cloud.pass_time(every)
            self.work()

    def work(self) -> None:
        now = self.world.now()
        for _ in garbage_collection.take_due_steps(self.world):
            pass
        for _ in garbage_collection.sweep_each(due.sweeps(now), self.world):
            pass

    def until(self, instance: Instance, status: Status, *, at_most: int = 300) -> Instance:
        for _ in range(at_most):
            instance.refresh_from_db()
            if instance.status == status:
                return instance
            self.let_pass(1)
        raise AssertionError(f"still {instance.status} after {at_most} s: {instance.last_error}")

    # --- what an operator does ------------------------------------------------------------------------------------

    def order(self, *types: str, spot: bool = False, zones: tuple[str, ...] = ()) -> Instance:
        return self.deploy(limits=Limits(instance_types=types, zones=zones, spot=spot))

    def serve(self, instance: Instance) -> Instance:
        """Its machine comes up, and its worker."""
        self.until(instance, Status.BOOTING)
        self.register(instance)
        index.publish(instance, self.world)
        self.heartbeat(instance)
        liveness.read_heartbeats(self.world)
        return self.until(instance, Status.READY, at_most=1)

    def end(self, instance: Instance) -> Instance:
        commands.request_termination(instance.pk, actor=OPERATOR, reason="done", now=self.world.now(), drain=False)
        return self.until(instance, Status.TERMINATED)

    # --- what there is --------------------------------------------------------------------------------------------

    def attempts(self, instance: Instance) -> list[tuple[str, str, str]]:
        """Type, zone, and why nothing came of it."""
        rows = Attempt.objects.filter(instance=instance).order_by("ordinal").select_related("instance_type", "zone")
        return [(row.instance_type.name, row.zone.name, row.error_code) for row in rows]

    def billed(self, kind: str = "") -> list[str]:
        """What the cloud bills at this moment."""
        return [line.id for line in self.cloud.bill() if line.until is None and kind in ("", line.kind)]

    def ledger(self) -> list[Line]:
        return [
            Line(row.kind, row.resource_id, row.since, row.until, row.price_per_hour or Decimal(0))
            for row in Rental.objects.all()
        ]

    def tags(self, *, owner: str = "") -> dict[str, str]:
        """Ours, of an attempt that no row knows."""
        return {
            TAG_OWNER: owner or project.INSTALLATION,
            TAG_INSTANCE: str(uuid.uuid4()),
            TAG_ATTEMPT: str(uuid.uuid4()),
        }


@pytest.fixture(params=["scaleway", "aws"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with open_cloud(request.param) as cloud:
        yield cloud


@pytest.fixture
def stage(db: None, cloud: Cloud, settings: Any) -> Iterator[WiredStage]:
    settings.ENABLED_PROVIDERS = [cloud.name]
    settings.PROVIDER_OPTIONS = {cloud.name: cloud.options()}
    settings.ROUTER_CIDRS = [ROUTER]
    client: redis.Redis = redis.Redis.from_url(project.REDIS_URL, decode_responses=True)
    client.flushdb()
    stage = WiredStage(cloud=cloud, world=a_world(cloud, Publisher(client)), redis=client)
    a_small_model()
    sync(stage)
    yield stage
    client.flushdb()
    client.close()


def a_world(cloud: Cloud, publisher: Publisher) -> World:
    """As a process has it: a driver for each account, made with what the settings give."""

    @cache
    def driver(name: str, account: uuid.UUID | None) -> Provider:
        return cloud.build(accounts.options(name, account))

    return World(now=cloud.now, provider=driver, publisher=publisher)


def sync(stage: WiredStage) -> None:
    """The catalogue of two zones, by the cloud's own word."""
    zones, _ = catalogue.find_zones(stage.cloud.name, stage.world)
    for zone in zones:
        if zone.location in stage.cloud.zones:
            report = catalogue.sync_zone(stage.cloud.name, zone, stage.world)
            assert not report.error
