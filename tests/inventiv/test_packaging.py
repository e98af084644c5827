"""What is shipped beside the code says what the code says."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from routing.router.config import Config

ROOT = Path(__file__).resolve().parents[2]
ONLY_COMPOSE = {"POSTGRES_PASSWORD"}
ROUTER_NEEDS = {"REDIS_URL": "redis://127.0.0.1:6379/0", "ENCRYPTION_KEYS": Fernet.generate_key().decode()}


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def read_by_settings() -> set[str]:
    tree = ast.parse((ROOT / "inventiv" / "settings.py").read_text())
    return {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "env"
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    }


def read_by_the_router() -> set[str]:
    class Asked(dict[str, str]):
        names: set[str] = set()

        def get(self, name: str, default: Any = None) -> Any:
            self.names.add(name)
            return super().get(name, default)

    asked = Asked(ROUTER_NEEDS)
    Config.from_environ(asked)
    return asked.names


def settings_with(environment: dict[str, str]) -> Any:
    """The settings of a fresh process, as JSON."""
    code = (
        "import json; from inventiv import settings as s;"
        "print(json.dumps({n: getattr(s, n) for n in dir(s) if n.isupper()}, default=str, sort_keys=True))"
    )
    base = {"PATH": os.environ["PATH"], "INVENTIV_HOME": os.environ["INVENTIV_HOME"]}
    filled = {name: value for name, value in environment.items() if value}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=base | filled, capture_output=True, text=True, check=True
    )
    return json.loads(run.stdout)


def test_it_lists_every_setting_in_the_example_and_nothing_else() -> None:
    assert set(example()) == read_by_settings() | read_by_the_router() | ONLY_COMPOSE


def test_it_shows_the_defaults_in_the_example() -> None:
    assert settings_with(example()) == settings_with({})
    assert Config.from_environ(example() | ROUTER_NEEDS) == Config.from_environ(ROUTER_NEEDS)


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_it_runs_every_process_in_compose_with_health_check_and_restart(compose: Any) -> None:
    services = compose["services"]

    assert set(services) == {"postgres", "redis", "migrate", "api", "orchestrator", "beat", "router"}
    for name, service in services.items():
        assert service["healthcheck"], name
        assert service["restart"] == ("on-failure" if name == "migrate" else "unless-stopped"), name


def test_it_runs_nothing_in_compose_as_root(compose: Any) -> None:
    image_user = re.search(r"^USER (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert image_user
    assert image_user[1] != "root"
    for name, service in compose["services"].items():
        assert "build" in service or service["user"] != "root", name


def test_it_sets_only_known_settings_in_compose(compose: Any) -> None:
    known = set(example())

    for name, service in compose["services"].items():
        ours = {variable for variable in service.get("environment", {}) if "build" in service}
        assert ours <= known, name
    assert set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())) <= known


def test_it_waits_in_compose_for_services_that_exist(compose: Any) -> None:
    services = compose["services"]

    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)


def locked(name: str) -> Iterator[str]:
    return (line for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines() if line[:1].isalpha())


@pytest.mark.parametrize("name", ["server", "base", "dev"])
def test_it_locks_every_requirement_with_its_hash(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()

    assert all("==" in line and line.endswith("\\") for line in locked(name))
    assert not re.search(r"^\s*--(?!hash)|://|file:", text, re.MULTILINE)


def test_it_locks_the_same_versions_everywhere() -> None:
    server, base, dev = ({line.split(" ")[0] for line in locked(name)} for name in ("server", "base", "dev"))

    assert server < base < dev
