"""Whose a column's value is: a sync's or the seed's, or an operator's.

`synced` of a row holds, by column, the value that a sync or the seed last wrote. A column that still has that value is
theirs, and the next sync may write it. One that differs was edited by hand, and one that is not in `synced` was
written by hand from the start: both are kept. Setting a column back to what was synced hands it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.db import models

from catalog.models import InstanceAvailability, InstanceType

SyncedRow = InstanceType | InstanceAvailability

# What a provider knows better, unless an operator says otherwise.
COLUMNS: dict[type[models.Model], tuple[str, ...]] = {
    InstanceType: ("gpu_name", "gpu_count", "vram_per_gpu_gb"),
    InstanceAvailability: ("price_per_hour", "currency", "spot_price_per_hour"),
}


def sign(row: SyncedRow, columns: Iterable[str]) -> None:
    """Note that the row's present values of these columns come from a sync or the seed."""
    row.synced = {**row.synced, **{column: _as_json(getattr(row, column)) for column in columns}}


def sign_new(row: SyncedRow) -> None:
    """Note it of all columns of a row that a sync or the seed is about to create."""
    sign(row, [*COLUMNS[type(row)], *(["stock"] if isinstance(row, InstanceAvailability) else [])])


def is_edited(row: SyncedRow, column: str) -> bool:
    return column not in row.synced or differs(row, column, row.synced[column])


def edited(row: SyncedRow) -> list[str]:
    """The columns that a sync keeps as they are."""
    return [column for column in COLUMNS[type(row)] if is_edited(row, column)]


def differs(row: models.Model, column: str, value: Any) -> bool:
    """Whether the row has another value than this one, which may be as a file or as JSON spells it."""
    field = row._meta.get_field(column)
    # "1.50" is the column's Decimal("1.500000").
    return isinstance(field, models.Field) and field.to_python(value) != getattr(row, column)


def _as_json(value: Any) -> Any:
    return str(value) if isinstance(value, Decimal) else value
