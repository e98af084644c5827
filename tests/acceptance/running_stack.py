"""The whole system, started and driven from outside: its command, its ports, its signals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import openai
import psutil

from fleet.providers.mock.machine import MARK as MACHINE_MARK
from inventiv.stack.leftovers import MARK
from inventiv.stack.supervision import Supervisor

ROOT = Path(__file__).resolve().parents[2]
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
LIVE = ("PROVISIONING", "BOOTING", "READY", "DRAINING", "FAILED")

# Everything that is a matter of waiting is quicker than by default; the order of the durations stays.
QUICK = {
    "WAKE_EVERY": "0.5",
    "REBUILD_INDEX_EVERY": "2",
    "HEARTBEAT_INTERVAL": "0.5",
    "HEARTBEAT_STALE_AFTER": "2",
    "HEARTBEAT_LOST_AFTER": "4",
    "STEP_TIME_LIMIT": "6",
    "LEASE_SECONDS": "8",
}
T = TypeVar("T")


def until(look: Callable[[], T], *, within: float, what: str) -> T:
    """The first truthy answer of `look`; fails when there is none `within` so many seconds."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.05)
    return seen


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class RunningStack:
    """`manage.py run` in a home of its own. All that is asked of it goes over HTTP, signals and its own commands."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self.home = home
        api_port, router_port = free_ports(2)
        self.api_url, self.router_url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{router_port}"
        ours = {"INVENTIV_HOME": str(home), "API_PORT": str(api_port), "ROUTER_PORT": str(router_port)}
        basics = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.environment = basics | ours | dict(settings)
        self.output = home.parent / f"{home.name}.out"
        self.command: subprocess.Popen[bytes] | None = None

    # --- its command ---------------------------------------------------------------------------------------------

    def start(self, *arguments: str, within: float = 90) -> None:
        with self.output.open("wb") as output:
            self.command = subprocess.Popen(
                [sys.executable, "manage.py", "run", *arguments],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(self._is_up_or_over, within=within, what=f"up: {self.shown()}")
        assert self.command.poll() is None, self.shown()

    def _is_up_or_over(self) -> bool:
        assert self.command
        return "Ctrl-C stops it all." in self.shown() or self.command.poll() is not None

    def shown(self) -> str:
        return self.output.read_text()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Returns the exit code."""
        assert self.command
        self.command.send_signal(number)
        return self.command.wait(60)

    def destroy(self, *, logs: Path) -> None:
        """However the test ended: nothing runs any more, and only the logs remain, at `logs`."""
        if self.command and self.command.poll() is None:
            self.stop()
        if (self.home / "log").exists():
            shutil.copytree(self.home / "log", logs)
        self.manage("wipe")

    def manage(self, *arguments: str) -> str:
        """The output of a `manage.py` command in the stack's own environment."""
        run = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    # --- its processes -------------------------------------------------------------------------------------------

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.home)

    def pid(self, program: str) -> int:
        return next(state.pid for state in self.supervisor.states() if state.name == program)

    def kill_group(self, program: str) -> None:
        """kill -9 of a program and of all that it forked, at one instant. supervisord starts it again."""
        os.killpg(os.getpgid(self.pid(program)), signal.SIGKILL)

    def until_up(self, program: str, *, other_than: int = 0) -> None:
        def is_up() -> bool:
            state = next(state for state in self.supervisor.states() if state.name == program)
            return state.is_up and state.pid != other_than

        until(is_up, within=30, what=f"{program} up")

    def processes(self) -> list[psutil.Process]:
        """All of the stack's, the command and the mock provider's machines included."""
        found = {process for process in psutil.process_iter() if self._is_ours(process)}
        if self.command and self.command.poll() is None:
            found.add(psutil.Process(self.command.pid))
        for process in list(found):
            with suppress(psutil.NoSuchProcess):
                found.update(process.children(recursive=True))  # Postgres' say nothing of their origin
        return list(found)

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            environment = process.environ()
            if environment.get(MARK) == str(self.home):
                return True
            return MACHINE_MARK in environment and process.cwd().startswith(str(self.home))
        except (psutil.Error, OSError):
            return False

    # --- its users -----------------------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        return (self.home / "secrets" / "api_key").read_text().strip()

    def api(self, key: str | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=self.api_url, headers=headers, timeout=10)

    def openai(self, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.router_url}/v1", api_key=key or self.key, max_retries=0, timeout=30)

    def deploy(self, model: str = MODEL) -> str:
        """Ask for one instance of a model on the mock provider; returns its id."""
        with self.api() as api:
            answer = api.post("/deployments", json={"model": model, "limits": {"providers": ["mock"]}})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["deployments"][0]["instance_id"])

    def instance(self, instance_id: str) -> Any:
        with self.api() as api:
            answer = api.get(f"/instances/{instance_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until_status(self, instance_id: str, status: str, *, within: float = 40) -> Any:
        def look() -> Any:
            instance = self.instance(instance_id)
            return instance if instance["status"] == status else None

        return until(look, within=within, what=f"{instance_id} {status}")

    def answers(self, model: str = MODEL) -> bool:
        """Whether a short chat goes through the router."""
        with self.openai() as client:
            try:
                client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
                )
            except openai.APIError:
                return False
        return True

    def until_answering(self, model: str = MODEL, *, within: float = 20) -> None:
        until(lambda: self.answers(model), within=within, what=f"an answer of {model}")

    def serve(self, model: str = MODEL) -> str:
        """The id of a ready instance of the model, deployed if there is none, to which the router sends requests."""
        with self.api() as api:
            ready = api.get("/instances", params={"status": "READY", "model": model}).json()["results"]
        instance_id = ready[0]["id"] if ready else self.deploy(model)
        self.until_status(instance_id, "READY")
        self.until_answering(model)
        return str(instance_id)

    def terminate(self, instance_id: str) -> None:
        with self.api() as api:
            assert api.delete(f"/instances/{instance_id}").status_code == 202

    def live_instances(self) -> list[str]:
        with self.api() as api:
            rows = api.get("/instances", params={"status": list(LIVE), "page_size": 200}).json()["results"]
        return [row["id"] for row in rows]

    # --- its cloud -----------------------------------------------------------------------------------------------

    def machines(self) -> list[Any]:
        """What the mock provider says that it runs."""
        return list(json.loads(self.manage("mock_cloud", "ls", "--json") or "[]"))

    def machines_of(self, instance_id: str) -> list[Any]:
        return [row for row in self.machines() if row["instance_id"] == instance_id]

    def bill_of(self, instance_id: str) -> list[Any]:
        """Every machine that the mock provider ever made for an instance."""
        lines = json.loads(self.manage("mock_cloud", "bill", "--json"))["lines"]
        return [line for line in lines if line["instance_id"] == instance_id]

    def chaos(self, name: str, value: str) -> None:
        self.manage("mock_cloud", "chaos", "set", name, value)

    def calm(self) -> None:
        self.manage("mock_cloud", "chaos", "clear")
