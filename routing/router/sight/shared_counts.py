"""How several router processes on one port show their counts as one: each keeps a file of its own in a directory that
whoever started them made, and the one that is asked adds up what the others wrote.

No total ever goes back, since Prometheus would take that for a restart and count everything again: what a process is
to show, it writes down first, and the file of one that died is taken over by the next that starts. With one process
there is no directory and no file.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from routing.router.sight.counts import Counts, Reading

DIRECTORY = "ROUTER_METRICS_DIRECTORY"  # in the environment of the processes; not a setting

_READING_HOLDS_FOR = 5.0  # seconds; then its process is gone, or hangs


@contextmanager
def directory(*, workers: int) -> Iterator[None]:
    """For the process that starts the others, around their whole life."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="inventiv-router-") as made:
        os.environ[DIRECTORY] = made
        try:
            yield
        finally:
            del os.environ[DIRECTORY]


def from_environ(environ: Mapping[str, str]) -> SharedCounts | None:
    made = environ.get(DIRECTORY)
    return SharedCounts(Path(made)) if made else None


class SharedCounts:
    """One process' part in it. Its methods block for as long as a small file takes; they raise OSError."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._own = home / f"{self._name}.json"
        self._life = _lock(self._life_of(self._name), fcntl.LOCK_EX)  # the kernel lets go of it when we die
        self._inherited = self._take_over()

    def write(self, counts: Counts, reading: Reading | None, *, now: float) -> None:
        """`reading`: None = the process is about to end. `now`: Unix seconds."""
        total = self._inherited.copy()
        total.add(counts)
        draft = self._own.with_suffix(".draft")
        draft.write_text(json.dumps([now, reading and asdict(reading), total.to_plain()], separators=(",", ":")))
        draft.replace(self._own)

    def leave(self) -> None:
        """Nothing more is written: another may take over."""
        self._life.close()

    def read(self, *, now: float) -> tuple[Counts, list[Reading]]:
        """The counts of all the processes there were, ours as last written, and the readings of those that live."""
        total, readings = Counts(), []
        with self._locked_home(fcntl.LOCK_SH):
            pages = [path.read_text() for path in self._home.glob("*.json")]
        for page in pages:
            written_at, reading, counts = json.loads(page)
            total.add(Counts.from_plain(counts))
            if reading is not None and now - written_at < _READING_HOLDS_FOR:
                readings.append(Reading(**reading))
        return total, readings

    def _take_over(self) -> Counts:
        """The counts of a process that died become ours. One is enough: for each that dies, one is started."""
        with self._locked_home(fcntl.LOCK_EX):
            for path in self._home.glob("*.json"):
                if self._is_dead(path.stem):
                    path.replace(self._own)  # at one stroke: never counted twice, nor missed
                    self._life_of(path.stem).unlink(missing_ok=True)
                    _, _, counts = json.loads(self._own.read_text())
                    return Counts.from_plain(counts)
        return Counts()

    def _is_dead(self, name: str) -> bool:
        try:
            _lock(self._life_of(name), fcntl.LOCK_EX | fcntl.LOCK_NB).close()
        except BlockingIOError:
            return False
        return True

    def _life_of(self, name: str) -> Path:
        return self._home / f"{name}.life"

    @contextmanager
    def _locked_home(self, how: int) -> Iterator[None]:
        """Nobody takes over a file while another reads them all."""
        with _lock(self._home / "home.lock", how):
            yield


def _lock(path: Path, how: int) -> IO[bytes]:
    held = path.open("ab")
    try:
        fcntl.flock(held, how)
    except BaseException:
        held.close()
        raise
    return held
