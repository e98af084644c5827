from __future__ import annotations

import threading
import uuid
from decimal import Decimal

import pytest
from celery import current_app
from django.db import connection

from catalog.models import LlmModel
from catalog.placement import Limits
from fleet import commands
from fleet.commands import Actor, CommandRefused, DeploymentOrder, IdempotencyConflict
from fleet.models import Deployment, DeploymentRequest, Instance
from fleet.states import Status
from inventiv.accounts.models import User
from tests.fleet.stage import OPERATOR, Stage


def request(stage: Stage, order: DeploymentOrder, *, actor: Actor = OPERATOR, key: str | None = None) -> uuid.UUID:
    return commands.request_deployment(order, actor=actor, now=stage.clock(), idempotency_key=key).pk


@pytest.fixture
def olga(stage: Stage) -> Actor:
    user = User.objects.create_user("olga@example.com")
    return Actor(name=user.email, user_id=user.pk)


def test_each_replica_is_a_deployment_on_an_instance_of_its_own(stage: Stage) -> None:
    pk = request(stage, DeploymentOrder("acme/small", replicas=3))

    instances = Instance.objects.filter(deployment__request=pk)
    assert instances.count() == 3
    assert {instance.status for instance in instances} == {Status.PROVISIONING}
    assert len({instance.api_key for instance in instances}) == 3
    assert all(instance.transitions.get().actor == OPERATOR.name for instance in instances)


def test_the_plan_is_kept_with_what_was_asked(stage: Stage) -> None:
    limits = Limits(instance_types=("LARGE",), max_price_per_hour=Decimal(5))
    pk = request(stage, DeploymentOrder("acme/small", concurrency=2, limits=limits))

    kept = DeploymentRequest.objects.get(pk=pk)
    assert Limits.from_json(kept.limits) == limits
    assert [row["offer"]["instance_type"] for row in kept.plan["ranked"]] == ["LARGE", "LARGE"]
    assert {row["code"] for row in kept.plan["rejected"]} == {"instance_type_not_asked"}


def test_planning_writes_nothing(stage: Stage) -> None:
    plan = commands.plan_deployment(DeploymentOrder("acme/small"))

    assert plan.ranked[0].offer.instance_type == "SMALL"
    assert DeploymentRequest.objects.count() == 0


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (DeploymentOrder("acme/unknown"), "model"),
        (DeploymentOrder("acme/small", replicas=0), "replicas"),
        (DeploymentOrder("acme/small", replicas=1000), "replicas"),
        (DeploymentOrder("acme/small", context_length=8193), "context_length"),
        (DeploymentOrder("acme/small", concurrency=0), "concurrency"),
        (DeploymentOrder("acme/small", limits=Limits(zones=("mars-1",))), "limits.zones"),
        (DeploymentOrder("acme/small", limits=Limits(providers=("azure",))), "limits.providers"),
        (DeploymentOrder("acme/huge"), "model"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_field_and_writes_nothing(
    stage: Stage, order: DeploymentOrder, field: str
) -> None:
    LlmModel.objects.create(
        name="Huge", model_id="acme/huge", required_vram_gb=4000, context_length=8192, parameters=10**12
    )

    with pytest.raises(CommandRefused) as refused:
        request(stage, order)

    assert refused.value.field == field
    assert Instance.objects.count() == 0


def test_where_nothing_fits_the_refusal_brings_the_reasons(stage: Stage) -> None:
    with pytest.raises(CommandRefused) as refused:
        request(stage, DeploymentOrder("acme/small", limits=Limits(max_price_per_hour=Decimal("0.10"))))

    assert refused.value.code == "nothing_fits"
    assert refused.value.plan is not None
    assert {row.code for row in refused.value.plan.rejected} == {"too_expensive"}


def test_the_same_idempotency_key_rents_once(stage: Stage, olga: Actor) -> None:
    order = DeploymentOrder("acme/small")

    assert request(stage, order, actor=olga, key="k1") == request(stage, order, actor=olga, key="k1")
    assert Instance.objects.count() == 1
    assert request(stage, order, actor=olga, key="k2")
    assert Instance.objects.count() == 2


def test_the_same_idempotency_key_for_something_else_is_a_conflict(stage: Stage, olga: Actor) -> None:
    request(stage, DeploymentOrder("acme/small"), actor=olga, key="k1")

    with pytest.raises(IdempotencyConflict):
        request(stage, DeploymentOrder("acme/small", replicas=2), actor=olga, key="k1")


def test_a_retry_asks_for_the_same_once_more(stage: Stage) -> None:
    deployment = Deployment.objects.get(request=request(stage, DeploymentOrder("acme/small", concurrency=3)))
    with pytest.raises(CommandRefused):
        commands.retry_deployment(deployment.pk, actor=OPERATOR, now=stage.clock())
    deployment.instance.move(Status.FAILED, reason="test", actor="test", at=stage.clock())

    again = commands.retry_deployment(deployment.pk, actor=OPERATOR, now=stage.clock())

    assert again.concurrency == 3
    assert again.deployments.get().instance != deployment.instance


@pytest.mark.django_db(transaction=True)
def test_twins_with_the_same_idempotency_key_at_the_same_moment_rent_once(stage: Stage, olga: Actor) -> None:
    got: list[uuid.UUID] = []
    start = threading.Barrier(4)

    def ask() -> None:
        try:
            start.wait(timeout=10)
            got.append(request(stage, DeploymentOrder("acme/small"), actor=olga, key="twin"))
        finally:
            connection.close()

    twins = [threading.Thread(target=ask) for _ in range(4)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join(timeout=30)

    assert len(got) == 4
    assert len(set(got)) == 1
    assert Instance.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_order_stands_whatever_becomes_of_its_message(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    # In this order: the writing one falls back to the other, and would be restored to what was patched.
    monkeypatch.setattr(current_app.conf, "broker_write_url", "no-such-transport://")
    monkeypatch.setattr(current_app.conf, "broker_url", "no-such-transport://")

    request(stage, DeploymentOrder("acme/small"))

    assert Instance.objects.get().next_attempt_at == stage.clock()
