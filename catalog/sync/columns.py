"""Writing what a provider says into a row, as far as the row's columns are not edited by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog import hand_edits
from catalog.hand_edits import SyncedRow
from catalog.sync.values import Notes


def take_over(row: SyncedRow, facts: Mapping[str, Any], *, name: str, notes: Notes) -> bool:
    """Set the columns that differ and are not edited by hand. Returns whether there were any."""
    differing = {column: value for column, value in facts.items() if hand_edits.differs(row, column, value)}
    kept = [column for column in differing if hand_edits.is_edited(row, column)]
    notes.kept += [f"{name}: {_said(row, column, differing.pop(column))}" for column in kept]
    for column, value in differing.items():
        notes.updated.append(f"{name}: {column} {getattr(row, column)} -> {value}")
        setattr(row, column, value)
    hand_edits.sign(row, differing)
    return bool(differing)


def _said(row: SyncedRow, column: str, value: Any) -> str:
    return f"{column} stays {getattr(row, column)}, which is not from a sync; the provider says {value}"
