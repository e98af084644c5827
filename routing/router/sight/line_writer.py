"""Lines on their way to a file or to standard output, without anybody waiting for them.

A write may wait for a slow disk, or for whoever should read our standard output, for ever: it is done by a thread of
its own. Not by the event loop's executor: what hangs there keeps the process from ending, and it keeps no order.
"""

from __future__ import annotations

import logging
import os
import select
import stat
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread

log = logging.getLogger(__name__)

STDOUT = "-"

_MOST_WAITING = 8 * 1024 * 1024  # bytes; what is too much for whoever reads it is dropped, not kept


class LineWriter:
    """`path`: of a file, which is appended to and may be moved away at any time (another is begun then); or STDOUT.
    Raises OSError if it can't be opened now; later errors are logged, once until it goes well again."""

    def __init__(self, path: str, *, most_waiting: int = _MOST_WAITING) -> None:
        self._path = path
        self._most_waiting = most_waiting
        self._file = self._open()
        self._jobs: SimpleQueue[bytes | None] = SimpleQueue()  # b"" = open anew, None = the end
        self._taken = 0  # bytes; counted up by the caller's thread
        self._done = 0  # bytes; counted up by ours
        self._is_behind = False
        self._fails = False
        self._lost = 0
        self._torn = b""
        self._thread = Thread(target=self._work, name="line writer", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Whole lines, each with its end. Returns at once."""
        if not lines:
            return
        waiting = self._taken - self._done
        if waiting > self._most_waiting:
            self._say_behind()
            return
        self._is_behind = self._is_behind and waiting > 0
        self._taken += len(lines)
        self._jobs.put(lines)

    def reopen(self) -> None:
        """Let go of the file and open it by its name again."""
        self._jobs.put(b"")

    def close(self, *, within: float) -> None:
        """Wait until all is written, at most `within` seconds."""
        self._jobs.put(None)
        self._thread.join(within)

    def _say_behind(self) -> None:
        if not self._is_behind:
            log.error("%s: it is not taken as fast as it is written; lines are lost", self._path)
        self._is_behind = True  # until all is taken: at the limit it goes to and fro

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._do(job)
            except OSError as error:
                self._failed(job, error)
            else:
                self._went_well()
            self._done += len(job)
        os.close(self._file)

    def _do(self, job: bytes) -> None:
        if not job or self._is_moved():
            fresh = self._open()
            os.close(self._file)
            self._file = fresh
        for piece in _pieces(self._torn + job, at_most=self._at_once()):
            self._write(piece)

    def _write(self, piece: bytes) -> None:
        written = 0
        while written < len(piece):
            try:
                written += os.write(self._file, piece[written:])
            except BlockingIOError:  # somebody made our standard output non-blocking
                select.select((), (self._file,), ())
            # Where a line was cut off, the next one has to begin anew.
            self._torn = b"" if piece[:written].endswith(b"\n") else b"\n"

    def _failed(self, job: bytes, error: OSError) -> None:
        if not self._fails:
            log.error("%s can't be written; lines are lost: %s", self._path, error)
        self._fails = True
        self._lost += job.count(b"\n")

    def _went_well(self) -> None:
        if self._fails:
            log.warning("%s is written again; up to %d lines were lost", self._path, self._lost)
        self._fails, self._lost = False, 0

    def _open(self) -> int:
        if self._path == STDOUT:
            return os.dup(1)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _is_moved(self) -> bool:
        if self._path == STDOUT:
            return False
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return True
        return not os.path.samestat(named, os.fstat(self._file))

    def _at_once(self) -> int:
        """Several processes write to one file: a write to a file is never mixed with another, to a pipe only a short
        one is not."""
        return _MOST_WAITING if stat.S_ISREG(os.fstat(self._file).st_mode) else select.PIPE_BUF


def _pieces(lines: bytes, *, at_most: int) -> Iterator[bytes]:
    """Whole lines, together no longer than this where a single one is not."""
    begin = 0
    while begin < len(lines):
        end = lines.rfind(b"\n", begin, begin + at_most) + 1 or lines.find(b"\n", begin) + 1
        yield lines[begin:end]
        begin = end
