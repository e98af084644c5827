"""The router as it is run in production: a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx
from cryptography.fernet import Fernet

ENCRYPTION_KEY = Fernet.generate_key().decode()
_LISTENS = re.compile(r"the router listens on \S+ port (\d+)")


class RouterProcess:
    def __init__(self, log: Path, *, redis_url: str, **settings: str) -> None:
        self.log = log
        environ = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": redis_url,
            "ENCRYPTION_KEYS": ENCRYPTION_KEY,
            "ROUTER_PORT": "0",
            **settings,
        }
        with log.open("wb") as output:
            command = [sys.executable, "-m", "routing.router"]
            self.process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
        self.port = self._wait_for_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._wait_until_alive()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=20)

    def _wait_for_port(self) -> int:
        deadline = time.monotonic() + 20
        while True:
            found = _LISTENS.search(self.log.read_text())
            if found:
                return int(found[1])
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _wait_until_alive(self) -> None:
        httpx.get(f"{self.url}/healthz", timeout=20).raise_for_status()
