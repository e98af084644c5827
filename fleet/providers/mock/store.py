"""The mock cloud's own books: what it rents out, to whom, since when, and how it is told to misbehave.

A SQLite file that every process on the machine shares: the orchestrator's workers, the command line, the tests.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from fleet.providers.base import ProviderError, Unavailable

_WAIT_FOR_LOCK = 20.0  # seconds
_VERSION = 2
# IF NOT EXISTS: books that an earlier version has written get what they lack.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS servers (
    id TEXT PRIMARY KEY,
    attempt_id TEXT UNIQUE,          -- over deleted ones too: an attempt never rents twice
    tags TEXT NOT NULL,              -- JSON object
    region TEXT NOT NULL,
    zone TEXT NOT NULL,
    instance_type TEXT NOT NULL,
    price_per_hour TEXT NOT NULL,
    currency TEXT NOT NULL,
    root_volume_gb INTEGER NOT NULL,
    address TEXT NOT NULL,
    user_data TEXT NOT NULL,
    created_at TEXT NOT NULL,
    started_at TEXT,
    deleting_at TEXT,
    deleted_at TEXT,
    pid INTEGER,                     -- of the machine's main process, and when the kernel started it:
    pid_started INTEGER,             -- together they name a process for ever; 0 and 0: it is simulated
    suspended INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS address_of_a_live_server ON servers (address) WHERE deleted_at IS NULL;
CREATE TABLE IF NOT EXISTS chaos (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS ssh_keys (id TEXT PRIMARY KEY, name TEXT NOT NULL, public_key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS calls (   -- counted while there is a limit
    second INTEGER PRIMARY KEY,      -- since the epoch
    allowed INTEGER NOT NULL,
    throttled INTEGER NOT NULL,
    tokens REAL NOT NULL,            -- of the bucket that limits them, after the last call
    at REAL NOT NULL                 -- of the last call: seconds since the epoch
);
"""


@dataclass(frozen=True, slots=True)
class Server:
    id: str
    attempt_id: str | None
    tags: Mapping[str, str]
    region: str
    zone: str
    instance_type: str
    price_per_hour: Decimal
    currency: str
    root_volume_gb: int
    address: str
    user_data: str
    created_at: datetime
    started_at: datetime | None = None
    deleting_at: datetime | None = None
    deleted_at: datetime | None = None
    pid: int | None = None
    pid_started: int | None = None
    suspended: bool = False


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls of one second, and the bucket after the last of them."""

    second: int
    allowed: int
    throttled: int
    tokens: float
    at: float


class Books:
    """The books, open in one transaction that excludes every other."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.when_closed: list[Callable[[bool], None]] = []  # each is told whether the transaction was committed

    def server(self, server_id: str) -> Server | None:
        return self._one("SELECT * FROM servers WHERE id = ?", server_id)

    def server_of_attempt(self, attempt_id: str) -> Server | None:
        return self._one("SELECT * FROM servers WHERE attempt_id = ?", attempt_id)

    def servers(self, *, zone: str | None = None, deleted: bool = False) -> list[Server]:
        """In the order of their creation; those that are deleted only if asked for."""
        rows = self._connection.execute(
            "SELECT * FROM servers WHERE (? OR deleted_at IS NULL) AND (? IS NULL OR zone = ?) ORDER BY created_at, id",
            (deleted, zone, zone),
        )
        return [_server(row) for row in rows]

    def running(self) -> list[Server]:
        """Those that were started and are not being deleted."""
        rows = self._connection.execute("SELECT * FROM servers WHERE started_at IS NOT NULL AND deleting_at IS NULL")
        return [_server(row) for row in rows]

    def add(self, server: Server) -> None:
        values = {name: _to_column(getattr(server, name)) for name in Server.__slots__}
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO servers ({names}) VALUES ({marks})", tuple(values.values()))  # noqa: S608 - our columns

    def change(self, server: Server, **fields: Any) -> None:
        changes = ", ".join(f"{name} = ?" for name in fields)
        values = [_to_column(value) for value in fields.values()]
        self._connection.execute(f"UPDATE servers SET {changes} WHERE id = ?", (*values, server.id))  # noqa: S608 - our columns

    def addresses_in_use(self) -> set[str]:
        rows = self._connection.execute("SELECT address FROM servers WHERE deleted_at IS NULL")
        return {row["address"] for row in rows}

    def chaos(self) -> dict[str, str]:
        return {row["name"]: row["value"] for row in self._connection.execute("SELECT * FROM chaos ORDER BY name")}

    def set_chaos(self, name: str, value: str | None) -> None:
        """None takes the setting back."""
        self._connection.execute("DELETE FROM chaos WHERE name = ?", (name,))
        if value is not None:
            self._connection.execute("INSERT INTO chaos (name, value) VALUES (?, ?)", (name, value))

    def ssh_key(self, key_id: str, *, name: str, public_key: str) -> str:
        """Register the key under `key_id`, unless it is known already; returns the id that it has."""
        self._connection.execute(
            "INSERT INTO ssh_keys (id, name, public_key) VALUES (?, ?, ?) ON CONFLICT (public_key) DO NOTHING",
            (key_id, name, public_key),
        )
        row = self._connection.execute("SELECT id FROM ssh_keys WHERE public_key = ?", (public_key,)).fetchone()
        return str(row["id"])

    def calls(self) -> list[Calls]:
        """How many there were in each second that had any, in order."""
        rows = self._connection.execute("SELECT * FROM calls ORDER BY second")
        return [Calls(**row) for row in rows]

    def last_calls(self) -> Calls | None:
        row = self._connection.execute("SELECT * FROM calls ORDER BY second DESC LIMIT 1").fetchone()
        return None if row is None else Calls(**row)

    def count(self, calls: Calls) -> None:
        """Write what is known now of the calls of a second."""
        self._connection.execute(
            "INSERT OR REPLACE INTO calls (second, allowed, throttled, tokens, at) VALUES (?, ?, ?, ?, ?)",
            (calls.second, calls.allowed, calls.throttled, calls.tokens, calls.at),
        )

    def wipe(self) -> None:
        for table in ("servers", "chaos", "ssh_keys", "calls"):
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608 - our tables

    def _one(self, query: str, value: str) -> Server | None:
        row = self._connection.execute(query, (value,)).fetchone()
        return None if row is None else _server(row)


class Store:
    """Opens the books in `home`, which is made if it is not there. Safe to share between threads and to fork."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._file = home / "cloud.sqlite3"

    @contextmanager
    def transaction(self) -> Iterator[Books]:
        """A ProviderError is an answer: what was written before it is kept. Any other exception undoes it all.

        Raises Unavailable, with nothing changed, if another process keeps the books for too long.
        """
        try:
            with closing(self._open()) as connection:
                yield from self._transaction(connection)
        except sqlite3.OperationalError as error:
            raise Unavailable(f"the mock cloud's store: {error}") from error

    def _transaction(self, connection: sqlite3.Connection) -> Iterator[Books]:
        connection.execute("BEGIN IMMEDIATE")
        books, committed = Books(connection), False
        try:
            yield books
        except ProviderError:
            connection.execute("COMMIT")
            committed = True
            raise
        else:
            connection.execute("COMMIT")
            committed = True
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            for tell in books.when_closed:
                tell(committed)

    def _open(self) -> sqlite3.Connection:
        self.home.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._file, timeout=_WAIT_FOR_LOCK, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")  # survives the end of any process, not a power cut
        if connection.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            self._set_up(connection)
        return connection

    def _set_up(self, connection: sqlite3.Connection) -> None:
        # A file lock: SQLite's own does not cover the switch to WAL.
        with (self.home / "cloud.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
                return
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")


_INSTANTS = ("created_at", "started_at", "deleting_at", "deleted_at")


def _server(row: sqlite3.Row) -> Server:
    values: dict[str, Any] = dict(row)
    for name in _INSTANTS:
        values[name] = None if values[name] is None else datetime.fromisoformat(values[name])
    values["tags"] = json.loads(values["tags"])
    values["price_per_hour"] = Decimal(values["price_per_hour"])
    values["suspended"] = bool(values["suspended"])
    return Server(**values)


def _to_column(value: Any) -> str | int | None:
    match value:
        case None | str() | int():
            return value
        case datetime():
            return value.isoformat()
        case Decimal():
            return str(value)
        case _:
            return json.dumps(dict(value), sort_keys=True)
