"""A bad setting: one line that names it, exit code 2, no traceback; whichever process is started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = {
    "migrate": ["manage.py", "migrate"],
    "run": ["manage.py", "run", "--no-demo"],
    "api": ["-m", "gunicorn"],
    "orchestrator": ["-m", "celery", "-A", "inventiv", "worker"],
    "beat": ["-m", "celery", "-A", "inventiv", "beat"],
    "router": ["-m", "routing.router"],
}
SECRETS = {"SECRET_KEY": "x" * 50, "ENCRYPTION_KEYS": Fernet.generate_key().decode()}
NOBODY = "127.0.0.1:1"  # where nothing listens


def start(name: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, *PROCESSES[name]],
        cwd=ROOT,
        env=base | {"INVENTIV_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(run: subprocess.CompletedProcess[str], setting: str) -> None:
    complaint = [line for line in run.stderr.splitlines() if not line.startswith("[")]  # gunicorn's greeting
    assert (run.returncode, len(complaint)) == (2, 1), run.stderr
    assert setting in complaint[0]


@pytest.mark.parametrize("name", ["migrate", "run", "api", "orchestrator", "beat"])
@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:password@host/name",
        "postgres://",
        f"postgres://user:password@{NOBODY}/name",
        "postgres://h:port/n",
    ],
)
def test_it_names_a_database_url_that_leads_nowhere(name: str, url: str, tmp_path: Path) -> None:
    run = start(name, tmp_path, DATABASE_URL=url, **SECRETS)

    assert_refused(run, "DATABASE_URL")
    assert "password@" not in run.stderr or "user:password@host" in run.stderr  # the example, never theirs


@pytest.mark.parametrize("name", ["run", "api", "orchestrator", "beat", "router"])
def test_it_names_a_redis_url_that_is_none(name: str, tmp_path: Path) -> None:
    assert_refused(start(name, tmp_path, REDIS_URL="http://host:6379", **SECRETS), "REDIS_URL")


def test_it_names_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    assert_refused(start("run", tmp_path, REDIS_URL=f"redis://{NOBODY}/0", **SECRETS), "REDIS_URL")


def test_it_hears_about_the_url_first_when_the_secrets_are_missing_too(tmp_path: Path) -> None:
    assert_refused(start("run", tmp_path, DATABASE_URL=f"postgres://user@{NOBODY}/name"), "DATABASE_URL")


@pytest.mark.parametrize("name", ["migrate", "run", "api", "orchestrator", "beat"])
@pytest.mark.parametrize("missing", ["SECRET_KEY", "ENCRYPTION_KEYS"])
def test_it_fails_closed_without_secrets_on_a_database_of_ones_own(name: str, missing: str, tmp_path: Path) -> None:
    from django.conf import settings

    given = SECRETS | {missing: ""}

    assert_refused(start(name, tmp_path, DATABASE_URL=settings.DATABASE_URL, **given), missing)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("API_PORT", "http"),
        ("API_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("ROUTER_PORT", "70000"),
        ("DEBUG", "maybe"),
        ("ENCRYPTION_KEYS", "not-a-key"),
        ("WAKE_EVERY", "often"),
        ("STEP_TIME_LIMIT", "90"),
        ("SCW_API_URL", "api.scaleway.com"),
        ("ROUTER_CIDRS", "0.0.0.0/0"),
        ("ROUTER_CIDRS", "203.0.113.7,0.0.0.0/1"),
        ("ROUTER_CIDRS", "203.0.113.7/24"),
        ("ROUTER_CIDRS", "router.example.org"),
        ("ROUTER_CIDRS", "::/0"),
        ("SSH_CIDRS", "office"),
        ("AWS_ENDPOINT_URL", "ftp://host"),
        ("SYNC_CATALOG_EVERY", "-1"),
        ("PROVIDER_CALLS_PER_SECOND", "10"),
        ("PROVIDER_CALLS_PER_SECOND", "aws=0"),
    ],
)
def test_it_names_a_value_that_makes_no_sense(setting: str, value: str, tmp_path: Path) -> None:
    assert_refused(start("migrate", tmp_path, **{setting: value}), setting)


SCALEWAY = {
    "SCW_ACCESS_KEY": "SCWXXXXXXXXXXXXXXXXX",
    "SCW_SECRET_KEY": "ca9a5ec4-e75c-4a9a-8e7e-ca9a5ec4e7ca",
    "SCW_DEFAULT_PROJECT_ID": "11111111-2222-4333-8444-555555555555",
}
AWS = {"AWS_ACCESS_KEY_ID": "AKIAXXXXXXXXXXXXXXXX", "AWS_SECRET_ACCESS_KEY": "c" * 40, "AWS_REGIONS": "eu-north-1"}


@pytest.mark.parametrize("setting", [*SCALEWAY, *AWS])
@pytest.mark.parametrize("value", ["", "canary"])
def test_it_names_the_credential_that_is_missing_or_malformed_and_repeats_none(
    setting: str, value: str, tmp_path: Path
) -> None:
    given = SCALEWAY | AWS | {setting: value, "ENABLED_PROVIDERS": "mock,scaleway,aws"}

    run = start("migrate", tmp_path, **given)

    assert_refused(run, setting)
    assert not [secret for secret in ("canary", *SCALEWAY.values(), *AWS.values()) if secret in run.stderr]


def test_it_does_not_mind_credentials_of_a_provider_that_is_not_enabled(tmp_path: Path) -> None:
    run = start("migrate", tmp_path, AWS_ACCESS_KEY_ID="for another program", SCW_ACCESS_KEY="likewise")

    assert_refused(run, "DATABASE_URL: not set")  # which is asked for later


@pytest.mark.parametrize("name", ["migrate", "api", "orchestrator", "beat"])
def test_it_says_that_the_embedded_servers_do_not_run(name: str, tmp_path: Path) -> None:
    assert_refused(start(name, tmp_path), "DATABASE_URL: not set")


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "setting"),
    [("run", "API_PORT"), ("run", "ROUTER_PORT"), ("api", "API_PORT"), ("router", "ROUTER_PORT")],
)
def test_it_names_a_port_in_use(name: str, setting: str, taken_port: str, tmp_path: Path) -> None:
    ports = {"API_PORT": "18773", "ROUTER_PORT": "18774"} | {setting: taken_port}
    # Alone, the router has no embedded Redis to fall back to.
    redis = {"REDIS_URL": f"redis://{NOBODY}/0"} if name == "router" else {}

    assert_refused(start(name, tmp_path, **ports, **SECRETS, **redis), setting)
