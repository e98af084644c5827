"""Which offer comes first, and which reason is given for every offer that is left out."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import currency
from catalog.fit import InvalidRequest
from catalog.placement import Limits, Offer, Plan, plan
from tests.catalog.needs import LLAMA_8B, LLAMA_70B, MIXTRAL, PHI_4, offer

ANYWHERE = Limits()
SPOT = Limits(spot=True)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
AN_HOUR_BEFORE = NOON - timedelta(hours=1)


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


def test_at_the_same_price_what_was_sold_out_at_our_last_try_comes_last_whatever_the_provider_says() -> None:
    offers = [
        offer("sold out", stock="available", last_success_at=AN_HOUR_BEFORE, last_stockout_at=NOON),
        offer("never had", stock="available", last_stockout_at=NOON),
        offer("had again", stock="unknown", last_success_at=NOON, last_stockout_at=AN_HOUR_BEFORE),
        offer("never tried", stock="unknown"),
    ]

    assert names(plan(LLAMA_8B, offers, ANYWHERE)) == ["had again", "never tried", "sold out", "never had"]


def test_at_the_same_price_and_stock_the_latest_success_comes_first() -> None:
    offers = [
        offer("a, never"),
        offer("b, earlier", last_success_at=AN_HOUR_BEFORE),
        offer("c, just now", last_success_at=NOON),
        offer("d, scarce", stock="scarce", last_success_at=NOON),
    ]

    assert names(plan(LLAMA_8B, offers, ANYWHERE)) == ["c, just now", "b, earlier", "a, never", "d, scarce"]


def test_a_cheaper_offer_comes_first_whatever_was_learned() -> None:
    offers = [
        offer("dear", price_per_hour=Decimal("1.01"), last_success_at=NOON),
        offer("cheap", price_per_hour=Decimal("1.00"), last_stockout_at=NOON, stock="scarce"),
    ]

    assert names(plan(LLAMA_8B, offers, ANYWHERE)) == ["cheap", "dear"]


INSTANTS = st.sampled_from([None, AN_HOUR_BEFORE, NOON])
OFFERS = st.builds(
    offer,
    st.sampled_from("abc"),
    zone=st.sampled_from(["fr-par-1", "fr-par-2"]),
    price_per_hour=st.sampled_from([Decimal(1), Decimal(2)]),
    stock=st.sampled_from(["available", "scarce", "unknown"]),
    last_success_at=INSTANTS,
    last_stockout_at=INSTANTS,
)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(OFFERS, max_size=4, unique_by=lambda given: (given.zone, given.instance_type)))
def test_the_order_of_the_catalogue_never_matters(offers: list[Offer]) -> None:
    plans = [plan(LLAMA_8B, order, ANYWHERE) for order in itertools.permutations(offers)]

    assert all(result == plans[0] for result in plans)
    assert all(result.walk() == plans[0].walk() for result in plans)


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


# --- spot ---------------------------------------------------------------------------------------------------------


def test_spot_machines_are_offered_at_their_own_price_to_whoever_asks_for_them() -> None:
    offers = [
        offer("a", price_per_hour=Decimal(1), spot_price_per_hour=Decimal("0.6")),
        offer("b", price_per_hour=Decimal(2), spot_price_per_hour=Decimal("0.5")),
    ]

    ranked = [row.offer for row in plan(LLAMA_8B, offers, SPOT).ranked]

    assert [(row.instance_type, row.price_per_hour, row.spot) for row in ranked] == [
        ("b", Decimal("0.5"), True),
        ("a", Decimal("0.6"), True),
    ]


def test_spot_prices_play_no_role_unless_asked_for() -> None:
    offers = [
        offer("a", price_per_hour=Decimal(1), spot_price_per_hour=Decimal("0.6")),
        offer("b", price_per_hour=Decimal(2), spot_price_per_hour=Decimal("0.5")),
    ]

    assert [row.offer for row in plan(LLAMA_8B, offers, ANYWHERE).ranked] == offers


def test_an_offer_without_a_spot_price_is_left_out_where_spot_is_asked_for() -> None:
    assert why_not(offer(), SPOT) == ("no_spot", "scaleway rents no L4-1 in fr-par-1 as a spot machine")


def test_a_price_limit_is_held_against_the_spot_price() -> None:
    limits = Limits(spot=True, max_price_per_hour=Decimal("0.5"))

    assert names(plan(LLAMA_8B, [offer(spot_price_per_hour=Decimal("0.5"))], limits)) == ["L4-1"]
    rejected = plan(LLAMA_8B, [offer(spot_price_per_hour=Decimal("0.6"))], limits).rejected
    assert [row.reason for row in rejected] == ["costs 0.60 EUR/h, more than the 0.50 EUR/h allowed"]


# --- the walk -----------------------------------------------------------------------------------------------------


def test_the_walk_goes_to_the_other_zones_then_to_larger_types_by_price_then_to_other_providers() -> None:
    offers = [
        offer("L4-1", price_per_hour=Decimal("1.00"), zone="fr-par-1"),
        offer("L4-1", price_per_hour=Decimal("1.90"), zone="pl-waw-2", region="pl-waw"),
        offer("L4-2", price_per_hour=Decimal("1.50"), gpu_count=2),
        offer("H100", price_per_hour=Decimal("3.00"), vram_per_gpu_gb=80),
        offer("A10G", price_per_hour=Decimal("1.10"), provider="aws", region="us-east-1", zone="us-east-1a"),
        offer("mock", price_per_hour=Decimal("1.05"), provider="mock", region="eu", zone="eu-1"),
    ]

    steps = [(row.offer.instance_type, row.offer.zone) for row in plan(LLAMA_8B, offers, ANYWHERE).walk()]

    assert steps == [
        ("L4-1", "fr-par-1"),
        ("L4-1", "pl-waw-2"),
        ("L4-2", "fr-par-1"),
        ("H100", "fr-par-1"),
        ("mock", "eu-1"),
        ("A10G", "us-east-1a"),
    ]


def test_the_walk_tries_a_type_that_is_smaller_than_the_best_after_the_larger_ones() -> None:
    offers = [
        offer("best", price_per_hour=Decimal(1), vram_per_gpu_gb=48),
        offer("smaller", price_per_hour=Decimal(2), vram_per_gpu_gb=24),
        offer("equal", price_per_hour=Decimal(3), vram_per_gpu_gb=24, gpu_count=2),
        offer("larger", price_per_hour=Decimal(4), vram_per_gpu_gb=80),
        offer("elsewhere", price_per_hour=Decimal(2), provider="aws"),
    ]

    walk = plan(LLAMA_8B, offers, ANYWHERE).walk()

    assert [row.offer.instance_type for row in walk] == ["best", "equal", "larger", "smaller", "elsewhere"]


def test_the_walk_has_every_offer_that_fits_once_and_begins_with_the_best() -> None:
    offers = [offer(name, zone=zone) for name, zone in itertools.product("abc", "xyz")]
    result = plan(LLAMA_8B, offers, ANYWHERE)

    assert result.walk()[0] == result.ranked[0]
    assert sorted(result.walk(), key=str) == sorted(result.ranked, key=str)


def test_a_plan_in_which_nothing_fits_has_no_walk() -> None:
    assert plan(LLAMA_8B, [offer(stock="shortage")], ANYWHERE).walk() == ()


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
            {"vanished_at": NOON},
            {},
            "vanished",
            "scaleway no longer lists L4-1 in fr-par-1, since 2026-11-23 12:00 UTC",
        ),
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


def test_what_was_learned_comes_back_from_json_too() -> None:
    learned = {"last_success_at": AN_HOUR_BEFORE, "last_stockout_at": NOON, "spot_price_per_hour": Decimal("0.5")}
    offers = [offer("a", **learned), offer("b", vanished_at=NOON, **learned)]

    for limits in (ANYWHERE, SPOT):
        result = plan(LLAMA_8B, offers, limits)
        assert Plan.from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_plan_that_was_stored_before_a_column_was_known_still_loads() -> None:
    result = plan(LLAMA_8B, [offer("a"), offer("b", stock="shortage")], ANYWHERE)
    stored = result.to_json()
    for row in stored["ranked"] + stored["rejected"]:
        for name in ("spot", "spot_price_per_hour", "vanished_at", "last_success_at", "last_stockout_at"):
            del row["offer"][name]

    assert Plan.from_json(stored) == result


@pytest.mark.parametrize(
    "limits", [ANYWHERE, SPOT, Limits(zones=("a", "b"), max_price_per_hour=Decimal("1.5"), currency="USD")]
)
def test_limits_come_back_from_json_as_they_were(limits: Limits) -> None:
    assert Limits.from_json(json.loads(json.dumps(limits.to_json()))) == limits
