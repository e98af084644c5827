"""What the routers are told of models, instances and keys when the index is rebuilt."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from catalog.models import InstanceType, LlmModel
from fleet.lifecycle import index
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing.discovery import keys
from routing.discovery.records import ClientKey, Endpoint, Routing, ServedModel
from routing.models import ApiKey, UsageHour
from tests.fleet.stage import Stage


def served(stage: Stage, model_id: str) -> ServedModel:
    raw: Any = stage.redis.hget(keys.MODELS, model_id)
    return ServedModel.from_json(raw)


def published(stage: Stage, instance_id: object) -> Endpoint:
    raw: Any = stage.redis.hgetall(keys.instance(str(instance_id)))
    return Endpoint.from_hash(raw)


def another_model(model_id: str, **columns: Any) -> LlmModel:
    return LlmModel.objects.create(
        name=model_id, model_id=model_id, required_vram_gb=4, context_length=4096, parameters=1, **columns
    )


def test_the_routers_learn_how_a_model_is_called(stage: Stage) -> None:
    another_model("acme/large")
    LlmModel.objects.filter(model_id="acme/small").update(
        aliases=["small"],
        fallbacks=["acme/large"],
        routing="prefix",
        first_byte_timeout=30,
        input_price_per_million=Decimal("0.15"),
        output_price_per_million=Decimal("0.600001"),
    )

    index.rebuild(stage.world)

    model = served(stage, "acme/small")
    assert (model.aliases, model.fallbacks, model.routing) == (("small",), ("acme/large",), Routing.PREFIX)
    assert (model.first_byte_timeout, model.input_price, model.output_price) == (30.0, 150_000, 600_001)


def test_nothing_is_made_up_of_what_is_not_set(stage: Stage) -> None:
    index.rebuild(stage.world)

    model = served(stage, "acme/small")
    assert (model.aliases, model.fallbacks, model.routing) == ((), (), Routing.LEAST_LOAD)
    assert (model.first_byte_timeout, model.input_price, model.output_price) == (0.0, 0, 0)


def test_a_fallback_that_is_gone_or_switched_off_is_left_out(stage: Stage) -> None:
    another_model("acme/off", is_active=False)
    another_model("acme/large")
    LlmModel.objects.filter(model_id="acme/small").update(fallbacks=["acme/gone", "acme/off", "acme/large"])

    index.rebuild(stage.world)

    assert served(stage, "acme/small").fallbacks == ("acme/large",)


def test_an_instance_has_its_models_cap_and_its_types_speed(stage: Stage) -> None:
    instance = stage.ready()
    assert (published(stage, instance.pk).capacity, published(stage, instance.pk).weight) == (0, 1.0)

    LlmModel.objects.update(max_concurrency=64)
    InstanceType.objects.filter(pk=instance.instance_type_id).update(relative_speed=Decimal("2.5"))
    index.rebuild(stage.world)

    assert (published(stage, instance.pk).capacity, published(stage, instance.pk).weight) == (64, 2.5)


def test_a_rebuild_brings_the_usable_keys_with_their_limits_and_no_others(stage: Stage) -> None:
    owner = User.objects.create(email="olga@example.com", role=Role.OPERATOR)
    off = User.objects.create(email="otto@example.com", role=Role.OPERATOR, is_active=False)
    good, _ = ApiKey.issue(owner_id=owner.pk, name="good", scopes=["inference"], requests_per_minute=60)
    ApiKey.issue(owner_id=owner.pk, name="reads", scopes=["read"])
    ApiKey.issue(owner_id=off.pk, name="owner is off", scopes=["inference"])
    late = stage.world.now() - timedelta(seconds=1)
    ApiKey.issue(owner_id=owner.pk, name="late", scopes=["inference"], expires_at=late)

    index.rebuild(stage.world)

    (name,) = stage.redis.keys("apikey:*")
    fields: Any = stage.redis.hgetall(name)
    told = ClientKey.from_hash(fields)
    assert (told.name, told.key_id, told.requests_per_minute) == ("good", str(good.pk), 60)


def test_after_a_flush_keys_have_spent_what_postgres_knows_of(stage: Stage) -> None:
    owner = User.objects.create(email="olga@example.com", role=Role.OPERATOR)
    key, _ = ApiKey.issue(owner_id=owner.pk, name="good", scopes=["inference"], monthly_token_budget=1000)
    sums = dict.fromkeys(("estimated", "cached_tokens", "duration_ms", "first_token_ms", "first_tokens"), 0)
    UsageHour.objects.create(
        hour=stage.world.now().replace(minute=0),
        key_id=key.pk,
        model_id="acme/small",
        operation="chat",
        status=200,
        requests=1,
        input_tokens=700,
        output_tokens=50,
        cost_micros=12,
        **sums,
    )
    stage.redis.flushdb()

    assert index.mend(stage.world)

    assert stage.redis.hgetall(keys.spent(str(key.pk), "2026-11")) == {"tokens": "750", "micros": "12"}
