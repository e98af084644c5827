"""Our tables against the ones that the product's user specified (`tests/schema.sql`), in Postgres' catalogues.

Ours may have more columns, and may be stricter (NOT NULL where the specification leaves it open), never less.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

SPECIFIED = "specified"
OURS = "public"
SCHEMA = Path(__file__).parent.parent / "schema.sql"
TABLES = [
    "users",
    "providers",
    "regions",
    "zones",
    "instance_types",
    "instance_availability",
    "ssh_keys",
    "models",
    "instances",
]

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def specified() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {SPECIFIED}")
        cursor.execute(f"SET LOCAL search_path TO {SPECIFIED}")
        cursor.execute(SCHEMA.read_text())
        cursor.execute("SET LOCAL search_path TO DEFAULT")


def rows(query: str, *arguments: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        return list(cursor.fetchall())


def columns(schema: str, table: str) -> dict[str, tuple[str, bool, str | None]]:
    """Of each column: its type, whether it must not be null, its default as a value."""
    found = rows(
        """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
        """,
        f"{schema}.{table}",
    )
    return {name: (kind, required, meaning(default)) for name, kind, required, default in found}


def meaning(default: str | None) -> str | None:
    """Two spellings of one default compare equal: now() and statement_timestamp() within a single statement."""
    if default is None:
        return None
    return re.sub(r"^(now|statement_timestamp)\(\)$", "the current instant", default)


def keys(schema: str, table: str) -> set[tuple[str, tuple[str, ...], str, tuple[str, ...]]]:
    """Primary keys (p), uniqueness (u) and foreign keys (f): kind, columns, and what they refer to."""
    found = rows(
        """
        SELECT c.contype::text,
               (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(c.conkey) WITH ORDINALITY AS k(attnum, n)
                JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum),
               (SELECT relname::text FROM pg_class WHERE oid = c.confrelid),
               (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(c.confkey) WITH ORDINALITY AS k(attnum, n)
                JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum)
        FROM pg_constraint c
        WHERE c.conrelid = %s::regclass AND c.contype IN ('p', 'u', 'f')
        """,
        f"{schema}.{table}",
    )
    return {(kind, tuple(names), table or "", tuple(others or ())) for kind, names, table, others in found}


def test_it_looks_at_every_table_of_the_specification() -> None:
    found = rows("SELECT tablename FROM pg_tables WHERE schemaname = %s", SPECIFIED)
    assert {name for (name,) in found} == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_it_has_every_column_by_the_same_name_and_type(table: str) -> None:
    ours = {name: kind for name, (kind, _, _) in columns(OURS, table).items()}
    theirs = {name: kind for name, (kind, _, _) in columns(SPECIFIED, table).items()}
    assert theirs
    assert {name: ours.get(name) for name in theirs} == theirs


@pytest.mark.parametrize("table", TABLES)
def test_it_requires_what_the_specification_requires(table: str) -> None:
    ours, theirs = columns(OURS, table), columns(SPECIFIED, table)
    required = {name for name, (_, must, _) in theirs.items() if must}
    assert required <= {name for name, (_, must, _) in ours.items() if must}


@pytest.mark.parametrize("table", TABLES)
def test_it_has_the_same_defaults_where_the_specification_has_one(table: str) -> None:
    ours, theirs = columns(OURS, table), columns(SPECIFIED, table)
    wanted = {name: default for name, (_, _, default) in theirs.items() if default is not None}
    assert {name: ours[name][2] for name in wanted} == wanted


@pytest.mark.parametrize("table", TABLES)
def test_it_has_the_same_keys_and_uniqueness(table: str) -> None:
    theirs = keys(SPECIFIED, table)
    assert theirs
    assert theirs <= keys(OURS, table)


@pytest.mark.parametrize(
    ("damage", "claim"),
    [
        ("ALTER TABLE zones ALTER name TYPE varchar(60)", test_it_has_every_column_by_the_same_name_and_type),
        ("ALTER TABLE zones DROP COLUMN name", test_it_has_every_column_by_the_same_name_and_type),
        ("ALTER TABLE zones ALTER name DROP NOT NULL", test_it_requires_what_the_specification_requires),
        ("ALTER TABLE zones DROP CONSTRAINT zones_region_name", test_it_has_the_same_keys_and_uniqueness),
        ("ALTER TABLE zones DROP CONSTRAINT zones_pkey CASCADE", test_it_has_the_same_keys_and_uniqueness),
    ],
)
def test_it_notices_a_difference(damage: str, claim: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(damage)
    with pytest.raises(AssertionError):
        claim("zones")


def test_it_notices_another_default() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE users ALTER role SET DEFAULT 'viewer'")
    with pytest.raises(AssertionError):
        test_it_has_the_same_defaults_where_the_specification_has_one("users")
