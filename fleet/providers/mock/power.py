"""What happens to the mock cloud's machines from outside of its API: deaths, freezes, a power cut, and its end."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from fleet.providers.base import TAG_INSTANCE
from fleet.providers.mock import machine
from fleet.providers.mock.offers import price_list
from fleet.providers.mock.store import Books, Server, Store

NOTICE = timedelta(minutes=2)  # as AWS gives
_DEATH_TAKES_AT_MOST = 10.0  # seconds


def kill(home: Path, name: str) -> Server:
    """The machine dies: SIGKILL to all its processes. Raises LookupError."""
    return _send(home, name, signal.SIGKILL)


def freeze(home: Path, name: str) -> Server:
    """The machine hangs: its processes stop, its connections stay open. Raises LookupError."""
    return _send(home, name, signal.SIGSTOP)


def thaw(home: Path, name: str) -> Server:
    """A frozen machine goes on. Raises LookupError."""
    return _send(home, name, signal.SIGCONT)


def interrupt(home: Path, name: str, *, now: datetime) -> tuple[Server, datetime]:
    """The cloud announces that it takes a spot machine back, and when, which is done by then. Said once: a repetition
    changes nothing. Raises LookupError."""
    with Store(home).transaction() as books:
        server = named(books, name)
        if server.price_per_hour != price_list().types[server.instance_type].spot_price_per_hour:
            raise LookupError(f"{server.id} is no spot machine")
        if not machine.is_on(server):
            raise LookupError(f"{server.id} is not running")
        return server, _announce(machine.notice(home, server.id), now + NOTICE)


def suspend(home: Path) -> int:
    """A power cut: every machine stops, and the cloud remembers which ran. Returns how many did."""
    with Store(home).transaction() as books:
        running = [server for server in books.servers() if machine.is_on(server)]
        for server in running:
            books.change(server, suspended=True)
            machine.send(server, signal.SIGKILL)
        _wait_for_the_end_of(running)
    return len(running)


def resume(home: Path, *, now: datetime) -> int:
    """The power is back: what a power cut stopped starts again, at its old address. Returns how many machines."""
    with Store(home).transaction() as books:
        suspended = [server for server in books.servers() if server.suspended]
        for server in suspended:
            if machine.is_on(server) or server.deleting_at is not None:
                books.change(server, suspended=False)
                continue
            machine.start(books, server, home=home, now=now)
    return len(suspended)


def wipe(home: Path) -> int:
    """The end of the cloud: every machine, every record and every setting. Returns how many servers existed."""
    with Store(home).transaction() as books:
        servers = books.servers()
        for server in servers:
            machine.send(server, signal.SIGKILL)
        _wait_for_the_end_of(servers)
        shutil.rmtree(home / "machines", ignore_errors=True)
        books.wipe()
    return len(servers)


def named(books: Books, name: str) -> Server:
    """A server by the beginning of its id, or of the id of the instance it was rented for. Raises LookupError."""
    found = [
        server
        for server in books.servers()
        if name and any(known.startswith(name) for known in (server.id, server.tags.get(TAG_INSTANCE, "")))
    ]
    if len(found) != 1:
        raise LookupError(f"{len(found) or 'no'} servers of the mock cloud are called {name!r}")
    return found[0]


def _send(home: Path, name: str, number: signal.Signals) -> Server:
    with Store(home).transaction() as books:
        server = named(books, name)
        if not machine.send(server, number):
            raise LookupError(f"{server.id} is not running")
        return server


def _announce(notice: Path, at: datetime) -> datetime:
    if not notice.exists():
        notice.parent.mkdir(parents=True, exist_ok=True)
        draft = notice.with_suffix(".new")
        draft.write_text(json.dumps({"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}))
        draft.replace(notice)
    return datetime.fromisoformat(json.loads(notice.read_text())["time"])


def _wait_for_the_end_of(servers: Sequence[Server]) -> None:
    deadline = time.monotonic() + _DEATH_TAKES_AT_MOST
    while any(machine.processes(server.id) for server in servers) and time.monotonic() < deadline:
        time.sleep(0.01)
