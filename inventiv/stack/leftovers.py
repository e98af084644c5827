"""One stack per home, and what to do about one whose command was killed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from inventiv.stack.supervision import Supervisor

# In the environment of every process of a stack. The mock provider's machines don't carry it: they live on.
MARK = "INVENTIV_STACK"


class AlreadyRunning(Exception):
    """Another `manage.py run` holds this home."""

    def __init__(self, home: Path, pid: str) -> None:
        super().__init__(
            f"it is running already in {home} (process {pid}); stop that one, or set another INVENTIV_HOME"
        )


@contextmanager
def sole_owner(home: Path) -> Iterator[None]:
    """Hold `home` while the block runs; the kernel lets go of it when this process dies, however it dies."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyRunning(home, file.read().strip() or "unknown") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def end_leftovers(home: Path) -> bool:
    """End what a killed command left running; True if there was something. Call it as the home's sole owner."""
    supervisor = Supervisor(home)
    found = supervisor.is_alive()
    supervisor.stop()
    # If supervisord was killed too, its children run on without it.
    orphans = [process for process in psutil.process_iter() if _belongs(process, home)]
    for orphan in orphans:
        with suppress(psutil.NoSuchProcess):
            orphan.terminate()
    _, stubborn = psutil.wait_procs(orphans, timeout=10)
    for orphan in stubborn:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
    psutil.wait_procs(stubborn, timeout=5)
    return found or bool(orphans)


def _belongs(process: psutil.Process, home: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(home)
    except (psutil.Error, OSError):
        return False  # gone, or somebody else's
