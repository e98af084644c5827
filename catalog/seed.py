"""Fills the catalogue from data files: one per provider, and `models.json`.

What is missing is created. What exists is kept as it is, because an operator may have changed it by hand; `update`
writes the files' facts over it. Never touched again once a row exists: what is the operator's to decide (`is_active`,
`required_vram_gb`) and what the provider knows better than a file (`stock`).

What a file wrote, a sync with the provider may bring up to date; what an operator then changed, it keeps
(`catalog.hand_edits`), until `update` makes it the file's again.

A provider's file, `<name>.json`:

    {"name", "description", "source", "as_of", "currency", "stock",
     "regions": {"<region>": ["<zone>", ...]},
     "instance_types": [{"name", "gpu_name", "gpu_count", "vram_per_gpu_gb", "price_per_hour": "1.23", "zones": [...],
                         "is_active": false, "note": "why"}]}

`models.json`: {"source", "as_of", "models": [{<the columns of `LlmModel`>, "note"}]}. In both, `source`, `as_of` and
`note` are for whoever reads the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models, transaction

from catalog import hand_edits
from catalog.models import InstanceAvailability, InstanceType, LlmModel, Provider, Region, Zone

DATA = Path(__file__).parent / "data"
_MODELS_FILE = "models.json"
_FOR_READERS = {"source", "as_of", "note"}

Row = TypeVar("Row", bound=models.Model)


class BadSeed(Exception):
    """A data file is wrong; the message names the file and the row. Nothing was written."""


class _Rehearsed(Exception):
    """Raised at the end of a dry run, to roll everything back."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many rows of each table were created, updated, kept: by the plural that the admin shows."""

    created: Counter[str] = field(default_factory=Counter)
    updated: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)

    def lines(self) -> Iterator[str]:
        for table in dict.fromkeys([*self.created, *self.updated, *self.kept]):
            yield f"{table}: {self.created[table]} created, {self.updated[table]} updated, {self.kept[table]} kept"


def seed(*, directory: Path = DATA, only: Collection[str] = (), update: bool = False, dry_run: bool = False) -> Tally:
    """Write all files of the directory, or those of the providers in `only`, in one transaction.

    Raises BadSeed. A dry run does everything but commit.
    """
    files = _provider_files(directory, only)
    sower = _Sower(update=update)
    try:
        with transaction.atomic():
            for path in files:
                _provider(sower, path)
            if not only:
                _models(sower, directory / _MODELS_FILE)
            if dry_run:
                raise _Rehearsed
    except _Rehearsed:
        pass
    return sower.tally


def _provider_files(directory: Path, only: Collection[str]) -> list[Path]:
    files = {path.stem: path for path in sorted(directory.glob("*.json")) if path.name != _MODELS_FILE}
    for name in only:
        if name not in files:
            raise BadSeed(f"there is no data file for provider {name!r}; there are: {', '.join(files)}")
    return [path for name, path in files.items() if not only or name in only]


# --- files ------------------------------------------------------------------------------------------------------


def _provider(sower: _Sower, path: Path) -> None:
    data = _read(path)
    with _Place(path.name) as place:
        provider = sower.put(Provider, {"name": data["name"]}, {"description": data["description"]})
        zones: dict[str, Zone] = {}
        for region_name, zone_names in data["regions"].items():
            place.at = f"regions, {region_name}"
            region = sower.put(Region, {"provider": provider, "name": region_name})
            for name in zone_names:
                zones[name] = sower.put(Zone, {"region": region, "name": name})
        for row in data["instance_types"]:
            place.at = f"instance_types, {row.get('name', '?')}"
            _instance_type(sower, provider, zones, row, currency=data["currency"], stock=data["stock"])


def _instance_type(
    sower: _Sower, provider: Provider, zones: dict[str, Zone], row: dict[str, Any], *, currency: str, stock: str
) -> None:
    facts = {name: value for name, value in row.items() if name not in _FOR_READERS}
    name, price, where = facts.pop("name"), facts.pop("price_per_hour"), facts.pop("zones")
    initial = {"is_active": facts.pop("is_active", True)}
    instance_type = sower.put(InstanceType, {"provider": provider, "name": name}, facts, initial)
    for zone in where:
        if zone not in zones:
            raise BadSeed(f"zone {zone} is in none of the regions")
        key = {"instance_type": instance_type, "zone": zones[zone]}
        sower.put(InstanceAvailability, key, {"price_per_hour": price, "currency": currency}, {"stock": stock})


def _models(sower: _Sower, path: Path) -> None:
    data = _read(path)
    with _Place(path.name) as place:
        for row in data["models"]:
            place.at = f"models, {row.get('model_id', '?')}"
            facts = {name: value for name, value in row.items() if name not in _FOR_READERS}
            key = {"model_id": facts.pop("model_id")}
            initial = {"required_vram_gb": facts.pop("required_vram_gb"), "is_active": facts.pop("is_active", True)}
            sower.put(LlmModel, key, facts, initial)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSeed(f"{path.name}: {error}") from error


class _Place:
    """Turns what goes wrong with a row into BadSeed, and says where it happened."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.at = "top level"

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if reason := _reason(error):
            raise BadSeed(f"{self.file}, {self.at}: {reason}") from error


def _reason(error: BaseException | None) -> str | None:
    match error:
        case BadSeed():
            return str(error)
        case KeyError():
            return f"{error} is missing"
        case FieldDoesNotExist() | TypeError() | AttributeError():
            return str(error)
        case ValidationError():
            return "; ".join(f"{name}: {' '.join(words)}" for name, words in error.message_dict.items())
    return None


# --- rows -------------------------------------------------------------------------------------------------------


class _Sower:
    def __init__(self, *, update: bool) -> None:
        self.update = update
        self.tally = Tally()

    def put(
        self,
        model: type[Row],
        key: dict[str, Any],
        facts: dict[str, Any] | None = None,
        initial: dict[str, Any] | None = None,
    ) -> Row:
        """The row with this key: created with facts and initial values, else kept, or updated with the facts."""
        facts = facts or {}
        table = str(model._meta.verbose_name_plural)
        row = model._default_manager.filter(**key).first()
        if row is None:
            row = model(**key, **facts, **(initial or {}))
            _check(row)
            if isinstance(row, hand_edits.SyncedRow):
                hand_edits.sign_new(row)
            row.save(force_insert=True)
            self.tally.created[table] += 1
        elif self.update and _write(row, facts):
            self.tally.updated[table] += 1
        else:
            self.tally.kept[table] += 1
        return row


def _write(row: models.Model, facts: dict[str, Any]) -> bool:
    """Whether anything was to be changed."""
    if not any(hand_edits.differs(row, name, value) or _is_by_hand(row, name) for name, value in facts.items()):
        return False
    for name, value in facts.items():
        setattr(row, name, value)
    _check(row)
    if isinstance(row, hand_edits.SyncedRow):
        hand_edits.sign(row, facts)
    row.save()
    return True


def _is_by_hand(row: models.Model, column: str) -> bool:
    return isinstance(row, hand_edits.SyncedRow) and hand_edits.is_edited(row, column)


def _check(row: models.Model) -> None:
    """The columns' validators. Keys were looked up a moment ago: asking for each again would double the time."""
    keys = {column.name for column in row._meta.fields if column.is_relation}
    row.full_clean(exclude=keys, validate_unique=False, validate_constraints=False)
