"""`manage.py check_provider NAME`: what works, what is missing, and what to do about it. Rents nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet import accounts, provider_check
from fleet.lifecycle.world import real_world
from fleet.provider_check import Checked
from fleet.providers import registry
from fleet.providers.base import Verdict

_MISSING, _BAD_USAGE = 1, 2  # exit codes
_WORDS = {Verdict.WORKS: "ok", Verdict.MISSING: "MISSING", Verdict.UNCLEAR: "unclear"}

_HEADINGS = ("ACCOUNT", "ZONE", "", "WHAT", "DETAIL")

T = TypeVar("T")


class Command(BaseCommand):
    help = "Say in plain words whether machines can be rented from a provider, and what is missing. Rents nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help=f"the provider: {', '.join(sorted(registry.DRIVERS))}")
        parser.add_argument("--account", help="only this one; `settings` is the account of the settings")
        parser.add_argument("--zone", help="only this one; default: every zone of the catalogue")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        name: str = options["name"]
        if name not in registry.DRIVERS:
            raise _unknown("provider", name, sorted(registry.DRIVERS))
        among = _only("account", options["account"], accounts.by_name(name))
        zones = _only("zone", options["zone"], provider_check.known_zones(name))
        found = list(provider_check.check(name, real_world(), among=among, zones=zones))
        self.stdout.write(_as_json(name, found) if options["json"] else _as_table(found))
        if _count(found, Verdict.MISSING):
            sys.exit(_MISSING)


def _only(kind: str, wanted: str | None, known: Mapping[str, T]) -> Mapping[str, T]:
    if wanted is None:
        return known
    if wanted not in known:
        raise _unknown(kind, wanted, list(known))
    return {wanted: known[wanted]}


def _unknown(kind: str, name: str, known: Sequence[str]) -> CommandError:
    there_are = f"there are: {', '.join(known)}" if known else "there is none"
    return CommandError(f"no {kind} {name!r}; {there_are}", returncode=_BAD_USAGE)


def _as_json(provider: str, found: Sequence[Checked]) -> str:
    rows = [
        {
            "account": row.account,
            "zone": row.zone,
            "subject": row.finding.subject,
            "verdict": row.finding.verdict,
            "detail": row.finding.detail,
        }
        for row in found
    ]
    return json.dumps({"provider": provider, "works": not _count(found, Verdict.MISSING), "findings": rows}, indent=1)


def _as_table(found: Sequence[Checked]) -> str:
    cells = [
        _HEADINGS,
        *(
            (row.account, row.zone, _WORDS[row.finding.verdict], row.finding.subject, row.finding.detail)
            for row in found
        ),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]) for line in cells
    ]
    return "\n".join([*lines, "", _summary(found)])


def _summary(found: Sequence[Checked]) -> str:
    missing, unclear = _count(found, Verdict.MISSING), _count(found, Verdict.UNCLEAR)
    verdict = f"{missing} missing: see above what to do" if missing else "Nothing is missing"
    return f"{verdict}{f'; {unclear} could not be found out' if unclear else ''}. Nothing was rented."


def _count(found: Sequence[Checked], verdict: Verdict) -> int:
    return sum(row.finding.verdict is verdict for row in found)
