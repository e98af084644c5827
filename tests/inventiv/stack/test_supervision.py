"""supervisord, as we use it, with small programs in place of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from inventiv.stack import leftovers
from inventiv.stack.programs import Program
from inventiv.stack.supervision import ProgramState, Supervisor

SLEEPER = Program("sleeper", "all", (sys.executable, "-c", "import time; time.sleep(600)"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "a home, 100% odd"


@pytest.fixture
def supervisor(home: Path) -> Iterator[Supervisor]:
    home.mkdir()
    supervisor = Supervisor(home)
    supervisor.start([SLEEPER], environment=os.environ | {leftovers.MARK: str(home)}, directory=home)
    supervisor.start_group("all")
    yield supervisor
    leftovers.end_leftovers(home)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleeper(supervisor: Supervisor) -> ProgramState:
    (state,) = supervisor.states()
    return state


def test_it_restarts_what_is_killed(supervisor: Supervisor) -> None:
    until(lambda: sleeper(supervisor).is_up)
    first = sleeper(supervisor).pid

    os.kill(first, signal.SIGKILL)

    until(lambda: sleeper(supervisor).is_up and sleeper(supervisor).pid != first)


def test_it_leaves_no_process_and_no_socket(supervisor: Supervisor, home: Path) -> None:
    until(lambda: sleeper(supervisor).is_up)
    pids = [supervisor.pid(), sleeper(supervisor).pid]

    supervisor.stop()

    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert not list(home.rglob("*.sock"))
    assert not supervisor.is_alive()


def test_it_ends_what_a_killed_supervisord_left(supervisor: Supervisor, home: Path) -> None:
    until(lambda: sleeper(supervisor).is_up)
    orphan, pid = sleeper(supervisor).pid, supervisor.pid()
    assert pid
    psutil.Process(pid).kill()

    assert leftovers.end_leftovers(home)

    assert not psutil.pid_exists(orphan)
    assert not leftovers.end_leftovers(home)


def test_it_lets_one_command_own_a_home_until_it_dies(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time; from inventiv.stack.leftovers import sole_owner\n"
        "with sole_owner(pathlib.Path(sys.argv[1])): print('mine', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(leftovers.AlreadyRunning, match=str(other.pid)), leftovers.sole_owner(tmp_path):
            pass
        other.kill()

    with leftovers.sole_owner(tmp_path):
        pass
