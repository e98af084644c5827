"""Which offer comes first, and which reason is given for every offer that is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from catalog import currency
from catalog.fit import InvalidRequest
from catalog.placement import Limits, Offer, Plan, plan
from tests.catalog.needs import LLAMA_8B, LLAMA_70B, MIXTRAL, PHI_4, offer

ANYWHERE = Limits()


def names(result: Plan) -> list[str]:
    return [ranked.offer.instance_type for ranked in result.ranked]


def why_not(offer: Offer, limits: Limits = ANYWHERE, need: Any = LLAMA_8B) -> tuple[str, str]:
    # A companion that meets any limit, so that the limits themselves make sense.
    companions = [
        replace(offer, provider="aws", region="us-east-1", zone="us-east-1a", instance_type="g6"),
    ]
    rejected = next(row for row in plan(need, [offer, *companions], limits).rejected if row.offer == offer)
    return rejected.code, rejected.reason


# --- the order ----------------------------------------------------------------------------------------------------


def test_the_cheapest_comes_first() -> None:
    result = plan(LLAMA_8B, [offer("b", price_per_hour=Decimal(2)), offer("a", price_per_hour=Decimal(1))], ANYWHERE)

    assert names(result) == ["a", "b"]


def test_at_the_same_price_stock_decides() -> None:
    offers = [offer(stock, stock=stock) for stock in ("unknown", "scarce", "available")]

    assert names(plan(LLAMA_8B, offers, ANYWHERE)) == ["available", "scarce", "unknown"]


def test_at_the_same_price_and_stock_the_name_decides_whatever_the_order_given() -> None:
    offers = [offer("b"), offer("a"), offer("a", zone="fr-par-0")]

    forwards, backwards = (plan(LLAMA_8B, order, ANYWHERE) for order in (offers, offers[::-1]))

    assert forwards == backwards
    assert [(row.offer.zone, row.offer.instance_type) for row in forwards.ranked] == [
        ("fr-par-0", "a"),
        ("fr-par-1", "a"),
        ("fr-par-1", "b"),
    ]


def test_prices_in_two_currencies_are_compared_by_the_table_and_kept_as_they_are() -> None:
    dollars = offer("dollars", price_per_hour=Decimal("1.10"), currency="USD")
    euros = offer("euros", price_per_hour=Decimal("1.00"), currency="EUR")

    result = plan(LLAMA_8B, [euros, dollars], ANYWHERE)

    assert currency.convert(Decimal("1.10"), "USD", to="EUR") < 1
    assert [ranked.offer for ranked in result.ranked] == [dollars, euros]


def test_a_ranked_offer_carries_the_arithmetic() -> None:
    (ranked,) = plan(MIXTRAL, [offer("H100-2", gpu_count=2, vram_per_gpu_gb=80)], ANYWHERE).ranked

    assert ranked.tensor_parallel_size == 2
    assert ranked.weights_gb == 93.41
    assert ranked.kv_cache_gb == pytest.approx(4.29, abs=0.01)
    assert ranked.vram_needed_gb == pytest.approx(97.7, abs=0.01)
    assert ranked.vram_available_gb == pytest.approx(144.2, abs=0.01)


# --- the reasons --------------------------------------------------------------------------------------------------


def test_every_offer_is_either_ranked_or_rejected() -> None:
    offers = [
        offer("fits"),
        offer("sold", stock="shortage"),
        offer("small", vram_per_gpu_gb=8),
        offer("off", active=False),
    ]

    result = plan(LLAMA_8B, offers, ANYWHERE)

    planned = [row.offer for row in result.ranked] + [row.offer for row in result.rejected]
    assert sorted(planned, key=str) == sorted(offers, key=str)
    assert names(result) == ["fits"]


@pytest.mark.parametrize(
    ("columns", "limits", "code", "words"),
    [
        ({"enabled": False}, {}, "provider_not_enabled", "provider scaleway is not enabled"),
        ({"active": False}, {}, "inactive", "instance type L4-1 is inactive"),
        ({"stock": "shortage"}, {}, "out_of_stock", "out of stock"),
        (
            {},
            {"providers": ("aws",)},
            "provider_not_asked",
            "provider scaleway is not among the providers asked for",
        ),
        ({}, {"regions": ("us-east-1",)}, "region_not_asked", "region fr-par is not among the regions asked for"),
        ({}, {"zones": ("us-east-1a",)}, "zone_not_asked", "zone fr-par-1 is not among the zones asked for"),
        (
            {},
            {"instance_types": ("g6",)},
            "instance_type_not_asked",
            "instance type L4-1 is not among the instance types asked for",
        ),
        (
            {"price_per_hour": Decimal("5.733000")},
            {"max_price_per_hour": Decimal(2)},
            "too_expensive",
            "costs 5.733 EUR/h, more than the 2.00 EUR/h allowed",
        ),
        ({"currency": "XTS"}, {}, "unknown_currency", "its price is in XTS, which can't be compared with the others"),
    ],
)
def test_what_is_left_out_says_why(columns: dict[str, Any], limits: dict[str, Any], code: str, words: str) -> None:
    assert why_not(offer(**columns), Limits(**limits)) == (code, words)


def test_a_floor_that_is_not_met_is_named() -> None:
    need = replace(LLAMA_8B, required_vram_gb=40)

    assert why_not(offer(), need=need) == ("below_floor", "the model requires 40 GB of VRAM, this type has 24 GB")


def test_weights_that_do_not_fit_are_named() -> None:
    code, words = why_not(offer(vram_per_gpu_gb=80), need=MIXTRAL)

    assert code == "weights_too_large"
    assert words == "needs 93.4 GB for weights, this type has 80 GB, of which the engine can use 72.1 GB"


def test_a_cache_that_does_not_fit_says_how_many_sequences_would() -> None:
    code, words = why_not(offer(gpu_count=2, vram_per_gpu_gb=80), need=LLAMA_70B)

    assert code == "cache_too_large"
    assert "needs 141.1 GB for weights and 10.7 GB for the KV cache of 4 x 8192 tokens" in words
    assert "enough for 1 such sequence" in words


def test_gpus_that_stay_idle_are_mentioned() -> None:
    need = replace(PHI_4, concurrency=64)

    assert "on 2 of its 4 GPUs (the model's heads split no further)" in why_not(offer(gpu_count=4), need=need)[1]


def test_a_lasting_reason_comes_before_a_passing_one() -> None:
    assert why_not(offer(stock="shortage", vram_per_gpu_gb=8))[0] == "weights_too_large"


def test_a_price_limit_in_another_currency_is_converted() -> None:
    dear = offer(price_per_hour=Decimal("1.10"))
    limit = Limits(max_price_per_hour=Decimal("1.20"), currency="USD")

    assert why_not(dear, limit) == ("too_expensive", "costs 1.10 EUR/h, more than the 1.20 USD/h allowed")
    assert names(plan(LLAMA_8B, [offer(price_per_hour=Decimal(1))], limit)) == ["L4-1"]


def test_a_price_at_the_limit_is_allowed() -> None:
    assert names(plan(LLAMA_8B, [offer()], Limits(max_price_per_hour=Decimal("1.00")))) == ["L4-1"]


# --- limits that make no sense ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "field", "words"),
    [
        ({"providers": ("azure",)}, "providers", "there is no offer with provider azure"),
        ({"zones": ("fr-par-1", "mars-1")}, "zones", "there is no offer with zone mars-1"),
        (
            {"providers": ("scaleway",), "zones": ("us-east-1a",)},
            "zones",
            "zone us-east-1a is at aws/us-east-1, outside of the other limits",
        ),
        (
            {"regions": ("fr-par",), "instance_types": ("g6",)},
            "instance_types",
            "instance type g6 is at aws/us-east-1, outside of the other limits",
        ),
        ({"max_price_per_hour": Decimal(-1)}, "max_price_per_hour", "must not be negative"),
        ({"currency": "XTS"}, "currency", "XTS is not among the known currencies: CHF, EUR, GBP, USD"),
    ],
)
def test_limits_that_nothing_can_meet_are_refused_by_field(limits: dict[str, Any], field: str, words: str) -> None:
    offers = [offer(), offer("g6", provider="aws", region="us-east-1", zone="us-east-1a")]

    with pytest.raises(InvalidRequest) as refused:
        plan(LLAMA_8B, offers, Limits(**limits))

    assert (refused.value.field, refused.value.message) == (field, words)


# --- as JSON ------------------------------------------------------------------------------------------------------


def test_a_plan_comes_back_from_json_as_it_was() -> None:
    offers = [offer("a", price_per_hour=Decimal("0.787500")), offer("b", stock="shortage")]
    result = plan(LLAMA_8B, offers, ANYWHERE)

    text = json.dumps(result.to_json())

    assert Plan.from_json(json.loads(text)) == result
    assert json.loads(text)["ranked"][0]["offer"]["price_per_hour"] == "0.787500"


@pytest.mark.parametrize(
    "limits", [ANYWHERE, Limits(zones=("a", "b"), max_price_per_hour=Decimal("1.5"), currency="USD")]
)
def test_limits_come_back_from_json_as_they_were(limits: Limits) -> None:
    assert Limits.from_json(json.loads(json.dumps(limits.to_json()))) == limits
