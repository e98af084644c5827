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
_REDIS = "INVENTIV_TEST_REDIS"  # from the run's controller to its workers

_WORKER = os.environ.get("PYTEST_XDIST_WORKER")  # "gw0", "gw1", ...
if _WORKER is None:
    os.environ[_HOME] = tempfile.mkdtemp(prefix="inv-test-")
else:
    # A Redis database for each, as pytest-django gives each a Postgres database: one must not flush another's.
    os.environ["REDIS_URL"] = f"{os.environ[_REDIS]}?db={int(_WORKER[2:]) + 1}"


def pytest_configure(config: pytest.Config) -> None:
    # Not above: this reads the settings, which must find the variables of above.
    from inventiv.embedded import defaults, servers

    if hasattr(config, "workerinput"):
        return
    home = Path(os.environ[_HOME])
    os.environ[_REDIS] = defaults.redis_url(home)
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
