"""A run as a table in Markdown, for people and for the README, and as JSON, for whoever compares runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from benchmarks.router import bars
from benchmarks.router.bench import Column, Outcome, Scenario, medians

_MACHINE = "{at:%Y-%m-%d %H:%M} UTC, {processor}, {cpus} CPUs, {memory_gib} GiB, {system}, Python {python}"


@dataclass(frozen=True, slots=True)
class Run:
    at: datetime
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]  # by router
    missing: Mapping[str, str]  # why a router is not there
    outcomes: Mapping[str, Outcome]  # by scenario


def as_json(run: Run) -> dict[str, Any]:
    found = {name: medians(outcome) for name, outcome in run.outcomes.items()}
    return {
        "at": run.at.isoformat(timespec="seconds"),
        "machine": dict(run.machine),
        "versions": dict(run.versions),
        "missing": dict(run.missing),
        "medians": found,
        "rounds": {name: {router: list(rounds) for router, rounds in of.items()} for name, of in run.outcomes.items()},
        "bars": [asdict(verdict) for verdict in bars.verdicts(found)],
    }


def as_markdown(run: Run, scenarios: Sequence[Scenario]) -> str:
    parts = [_MACHINE.format(at=run.at, **run.machine)]
    found = {name: medians(outcome) for name, outcome in run.outcomes.items()}
    for scenario in scenarios:
        if scenario.name in found:
            parts.append(f"**{scenario.title}**\n\n{_table(scenario, found[scenario.name], run.versions)}")
    parts.append(_bars(bars.verdicts(found)))
    return "\n\n".join(parts)


def _table(scenario: Scenario, found: Mapping[str, Mapping[str, float]], versions: Mapping[str, str]) -> str:
    headings = ["router"]
    for column in scenario.columns:
        headings += [column.heading, "ours / it"] if column.ratio else [column.heading]
    rows = [[f"{name} {versions.get(name, '')}".strip(), *_cells(scenario, name, found)] for name in found]
    return _lines(headings, rows)


def _cells(scenario: Scenario, name: str, found: Mapping[str, Mapping[str, float]]) -> list[str]:
    cells = []
    for column in scenario.columns:
        value = found[name][column.figure]
        cells.append(f"{value:,.{column.digits}f}")
        if column.ratio:
            cells.append(_ratio(column, value, found.get(bars.OURS)))
    return cells


def _ratio(column: Column, value: float, ours: Mapping[str, float] | None) -> str:
    return f"{ours[column.figure] / value:.2f}" if ours and value else ""


def _bars(judged: Sequence[bars.Verdict]) -> str:
    rows = [[each.claim, f"{each.value:.2f}", "yes" if each.cleared else "**no**"] for each in judged]
    return _lines(["bar", "measured", "cleared"], rows)


def _lines(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *rows))
