from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fleet.admin import columns
from fleet.models import Outcome
from fleet.states import DEFINITIONS, Status

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("2.5", "2.50 EUR"),
        ("3", "3.00 EUR"),
        ("0.016700", "0.0167 EUR"),
        ("100.000000", "100.00 EUR"),
        ("0", "0.00 EUR"),
    ],
)
def test_a_price_has_at_least_two_decimals_and_no_zeros_beyond(amount: str, text: str) -> None:
    assert columns.price(Decimal(amount), "EUR") == text


def test_prices_are_summed_for_each_currency() -> None:
    prices = [(Decimal("2"), "USD"), (Decimal("3"), "EUR"), (Decimal("0.5"), "EUR")]
    assert columns.per_hour(prices) == "3.50 EUR and 2.00 USD per hour"


@pytest.mark.parametrize(("amount", "text"), [("2.3816", "2.38 EUR"), ("0.0049", "< 0.01 EUR"), ("0", "0.00 EUR")])
def test_a_cost_is_written_to_the_cent(amount: str, text: str) -> None:
    assert columns.amounts({"EUR": Decimal(amount)}) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(seconds=119), "119 s"),
        (timedelta(minutes=2), "2 min"),
        (timedelta(hours=26), "26 h"),
        (timedelta(days=12), "12 d"),
    ],
)
def test_an_age_is_in_the_largest_unit_of_which_there_are_two(ago: timedelta, text: str) -> None:
    assert columns.age(NOW - ago, NOW) == text


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_colour_and_its_definition_as_tooltip(status: Status) -> None:
    assert DEFINITIONS[status] in str(columns.status_badge(status)).replace("&#x27;", "'")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_colour(outcome: Outcome) -> None:
    assert f">{outcome.label.partition(':')[0]}</span>" in columns.outcome_badge(outcome)


def test_what_a_machine_or_a_person_wrote_is_escaped() -> None:
    assert "<script>" not in columns.badge("<script>", "good", title='"><script>')
