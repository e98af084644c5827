"""Real Postgres and Redis for the whole run: started once, by whoever controls it, in a directory of its own.

A plugin (`-p` in pyproject.toml) and not a conftest: pytest-django reads the settings before any conftest is loaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_RUNNING: list[subprocess.Popen[bytes]] = []
_HOME = "INVENTIV_HOME"


if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ[_HOME] = tempfile.mkdtemp(prefix="inv-test-")


def pytest_configure(config: pytest.Config) -> None:
    from inventiv.embedded import servers

    if hasattr(config, "workerinput") or not servers.is_embedded():
        return
    home = Path(os.environ[_HOME])
    for server in servers.prepare(home, durable=False):
        _RUNNING.append(servers.start(server, home / f"{server.name}.log"))


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    for process in reversed(_RUNNING):
        process.terminate()
        process.wait(timeout=30)
    _RUNNING.clear()
    shutil.rmtree(os.environ[_HOME], ignore_errors=True)
