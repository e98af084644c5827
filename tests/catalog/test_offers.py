"""The catalogue's rows as values for the planner."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from catalog import fit
from catalog.fit import InvalidRequest
from catalog.models import InstanceAvailability
from catalog.offers import current_offers, need
from catalog.placement import Limits, Offer, plan
from tests.catalog.stage import Stage, make_model


def test_an_offer_has_all_that_a_plan_needs(stage: Stage, settings: Any) -> None:
    settings.ENABLED_PROVIDERS = ["scaleway"]

    assert current_offers() == (
        Offer(
            provider="scaleway",
            region="fr-par",
            zone="fr-par-1",
            instance_type="L4-1-24G",
            gpu_name="L4",
            gpu_count=1,
            vram_per_gpu_gb=24,
            price_per_hour=Decimal("0.787500"),
            currency="EUR",
            stock="scarce",
            active=True,
            enabled=True,
        ),
    )


def test_an_offer_carries_what_was_learned_and_what_the_provider_says_of_it(stage: Stage) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    learned = {"last_success_at": now, "last_stockout_at": now, "vanished_at": now, "spot_price_per_hour": Decimal(1)}
    InstanceAvailability.objects.update(**learned)

    (offer,) = current_offers()

    assert {name: getattr(offer, name) for name in learned} == learned


def test_all_offers_come_with_one_query(stage: Stage, django_assert_num_queries: Callable[[int], Any]) -> None:
    InstanceAvailability.objects.create(
        instance_type=stage.h100, zone=stage.bare_zone, price_per_hour=Decimal(3), currency="EUR"
    )

    with django_assert_num_queries(1):
        assert len(current_offers()) == 2


@pytest.mark.parametrize(
    ("enabled", "active", "code"), [(False, True, "provider_not_enabled"), (True, False, "inactive")]
)
def test_what_may_not_be_rented_is_rejected_and_not_hidden(
    stage: Stage, settings: Any, enabled: bool, active: bool, code: str
) -> None:
    settings.ENABLED_PROVIDERS = ["scaleway"] if enabled else []
    type(stage.l4).objects.update(is_active=active)

    result = plan(need(stage.model), current_offers(), Limits())

    assert not result.ranked
    assert [row.code for row in result.rejected] == [code]


def test_the_load_has_defaults_that_the_models_own_context_caps(stage: Stage) -> None:
    by_default = need(stage.model)
    short = need(make_model("acme/short", context_length=2048))

    assert (by_default.context_length, by_default.concurrency) == (fit.DEFAULT_CONTEXT_LENGTH, fit.DEFAULT_CONCURRENCY)
    assert short.context_length == 2048


def test_the_load_asked_for_is_taken(stage: Stage) -> None:
    asked = need(stage.model, context_length=131072, concurrency=1)

    assert (asked.context_length, asked.concurrency) == (131072, 1)


@pytest.mark.parametrize(
    ("load", "field"),
    [
        ({"context_length": 131073}, "context_length"),
        ({"context_length": 0}, "context_length"),
        ({"concurrency": 0}, "concurrency"),
    ],
)
def test_a_load_that_the_model_can_not_have_is_refused(stage: Stage, load: dict[str, int], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        need(stage.model, **load)

    assert refused.value.field == field
