"""The programs of the stack, as data: what supervisord is told about each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inventiv.celery import QUEUE
from inventiv.embedded.servers import Server

DATABASES = "databases"
PROCESSES = "processes"


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    group: str
    command: Sequence[str]
    user: str | None = None  # the system user to run as; None: whoever we are
    stop_signal: str = "TERM"
    stop_seconds: int = 20  # then it is killed


def database(server: Server) -> Program:
    # INT is Postgres' fast shutdown: TERM would wait until the last client has gone.
    signal = "INT" if server.name == "postgres" else "TERM"
    return Program(server.name, DATABASES, server.command, user=server.user, stop_signal=signal)


def processes(home: Path, *, concurrency: int) -> tuple[Program, ...]:
    """The product plane, the orchestrator, its clock and the router."""
    python = (sys.executable, "-m")
    celery = (*python, "celery", "-A", "inventiv")
    worker = ("worker", "-Q", QUEUE, "-c", str(concurrency), "-l", "INFO", "--without-gossip", "--without-mingle")
    return (
        Program("api", PROCESSES, (*python, "gunicorn")),
        Program("orchestrator", PROCESSES, (*celery, *worker)),
        Program("beat", PROCESSES, (*celery, "beat", "-l", "WARNING", "--pidfile=", "-s", f"{home}/beat-schedule")),
        Program("router", PROCESSES, (*python, "routing.router")),
    )
