"""`make run` as somebody meets it who has just cloned the repository."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.acceptance.running_stack import MODEL, ROOT, RunningStack, until

GIBIBYTE = 1024**3
CURL = re.compile(r"^curl .*$", re.MULTILINE)
PYTHON = re.compile(r"^\S+ - <<'EOF'$.*?^EOF$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """All defaults, but for the home and the ports."""
    directory = Path(tempfile.mkdtemp(prefix="inv-run-"))
    stack = RunningStack(directory / "home", {})
    try:
        stack.start(within=120)
        yield stack
    finally:
        stack.destroy(logs=tmp_path_factory.mktemp("run") / "log")
        shutil.rmtree(directory)


def sockets(stack: RunningStack) -> list[Path]:
    return [path for path in stack.home.rglob("*") if path.is_socket()]


def test_it_shows_the_way_to_a_streamed_answer(fresh: RunningStack) -> None:
    shown = fresh.shown()

    for step in ("databases", "catalogue", "processes", "plan", "PROVISIONING", "BOOTING", "READY"):
        assert re.search(rf"^  {step} +\d+\.\d s", shown, re.MULTILINE), step
    assert f"I am a simulated engine playing {MODEL}" in shown
    assert "Traceback" not in shown


def test_it_prints_examples_that_work_as_printed(fresh: RunningStack) -> None:
    examples = CURL.findall(fresh.shown()) + PYTHON.findall(fresh.shown())

    assert len(examples) == 2
    for example in examples:
        run = subprocess.run(["bash", "-c", example], capture_output=True, text=True, timeout=30, check=True)
        assert "simulated" in run.stdout


def test_it_prints_addresses_that_answer(fresh: RunningStack) -> None:
    addresses = re.findall(r"^  (?:Admin|Swagger) +(\S+)$", fresh.shown(), re.MULTILINE)

    assert len(addresses) == 2
    for address in addresses:
        assert httpx.get(address, follow_redirects=True).status_code == 200


def test_it_prints_a_password_that_opens_the_admin(fresh: RunningStack) -> None:
    found = re.search(r"^Admin (\S+), password (\S+) ", fresh.shown(), re.MULTILINE)
    assert found
    with httpx.Client(base_url=fresh.api_url, follow_redirects=True) as browser:
        browser.get("/admin/login/")
        form = {"username": found[1], "password": found[2], "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        page = browser.post("/admin/login/?next=/admin/", data=form, headers={"Referer": fresh.api_url})

    assert page.status_code == 200
    assert "Log out" in page.text


def test_it_uses_less_than_a_gibibyte_at_rest(fresh: RunningStack) -> None:
    def proportional(process: psutil.Process) -> int:
        try:
            return int(process.memory_full_info().pss)
        except psutil.NoSuchProcess:
            return 0

    assert sum(map(proportional, fresh.processes())) < GIBIBYTE


def test_it_runs_once_in_a_home(fresh: RunningStack) -> None:
    second = subprocess.run(
        [sys.executable, "manage.py", "run"],
        cwd=ROOT,
        env=fresh.environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert second.returncode == 2
    assert second.stderr.count("\n") == 1
    assert "running already" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_nothing_behind_and_takes_up_the_same_data(fresh: RunningStack, number: signal.Signals) -> None:
    key, instances = fresh.key, fresh.live_instances()

    assert fresh.stop(number) == 0
    assert fresh.processes() == []
    assert sockets(fresh) == []

    fresh.start()
    assert "password" not in fresh.shown()
    assert (fresh.key, fresh.live_instances()) == (key, instances)
    assert fresh.answers()


@pytest.mark.parametrize("with_supervisord", [False, True])
def test_it_recovers_when_it_was_killed(fresh: RunningStack, with_supervisord: bool) -> None:
    instances = fresh.live_instances()
    supervisord = fresh.supervisor.pid()
    assert fresh.command
    assert supervisord
    if with_supervisord:
        psutil.Process(supervisord).kill()
    fresh.command.kill()
    fresh.command.wait()

    fresh.start()

    assert "An earlier run was killed" in fresh.shown()
    assert fresh.live_instances() == instances
    until(fresh.answers, within=10, what="an answer")
