"""The ledger against the cloud's bill."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tests.fleet.end_to_end.clouds import Line
from tests.fleet.end_to_end.stage import WiredStage

A_LOOK = timedelta(seconds=1)  # between two looks at what is being destroyed


def assert_the_ledger_is_the_bill(stage: WiredStage, *, within: timedelta = A_LOOK, but: str = "") -> None:
    """Line by line: from the cloud's own instant to the look that found it gone, at most `within` after it was.

    `but`: a kind whose instants may differ.
    """
    bill = {(line.kind, line.id): line for line in stage.cloud.bill()}
    ledger = {(line.kind, line.id): line for line in stage.ledger()}
    assert ledger.keys() == bill.keys()
    for key, line in ledger.items():
        if line.kind != but:
            _assert_is(line, bill[key], within=within)


def _assert_is(line: Line, billed: Line, *, within: timedelta) -> None:
    assert abs(line.since - billed.since) < timedelta(milliseconds=1), (line, billed)
    assert line.price_per_hour == pytest.approx(billed.price_per_hour, rel=Decimal("0.0001")), (line, billed)
    assert (line.until is None) == (billed.until is None), (line, billed)
    if line.until is not None and billed.until is not None:
        assert timedelta(0) <= line.until - billed.until <= within, (line, billed)
