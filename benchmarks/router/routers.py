"""What is compared, and how each is started: one worker, on the router's CPU, before the same engines."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from benchmarks.router import chats, machine
from benchmarks.router.programs import Failed

_START_WITHIN = 120.0  # seconds; LiteLLM takes its time
_STOP_WITHIN = 10.0
_KEY = f"sk-{secrets.token_hex(32)}"  # for a router that asks for one


@dataclass(frozen=True, slots=True)
class Running:
    port: int
    pid: int = 0  # 0: there is no router
    key: str = _KEY
    redis_pid: int = 0
    redis_url: str = ""


class Router(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def is_slow(self) -> bool:
        """Whether it would take minutes for what the others do in seconds: where only the others are of interest, it
        is left out."""

    def missing(self) -> str:
        """What it takes and is not here; "" if it can be started."""

    def version(self) -> str: ...

    def running(self, ports: Sequence[int], home: Path) -> AbstractContextManager[Running]:
        """The router while the block runs, in front of the engines on these ports; `home` is its own directory."""


class Direct:
    """No router at all: the load goes to an engine."""

    name = "direct"
    is_slow = False

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return ""

    @contextmanager
    def running(self, ports: Sequence[int], home: Path) -> Iterator[Running]:
        yield Running(port=ports[0])


class Nginx:
    name = "nginx"
    is_slow = False

    def missing(self) -> str:
        return "" if _nginx() else "nginx is not installed (on Debian and Ubuntu: apt install nginx-light)"

    def version(self) -> str:
        told = subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=True)  # noqa: S603 - found on PATH
        return told.stderr.strip().rpartition("/")[2]

    @contextmanager
    def running(self, ports: Sequence[int], home: Path) -> Iterator[Running]:
        port = free_port()
        config = home / "nginx.conf"
        config.write_text(_nginx_config(port, ports, home))
        command = [_nginx(), "-c", str(config), "-p", str(home), "-e", str(home / "error.log")]
        with _process(command, home) as process:
            await_answer(port, key=_KEY)
            yield Running(port=port, pid=process.pid)


@dataclass(frozen=True, slots=True)
class Peer:
    """A router from PyPI, in a virtual environment of its own or on PATH."""

    name: str
    package: str
    arguments: Sequence[str]  # {port}, {urls}, {policy}, {spare} (another free port) and {config} are filled in
    policy: str = ""
    cache_policy: str = ""  # by which conversations find their cache again, without asking the engines for more
    environment: Sequence[str] = ()
    home: Path | None = None  # of the virtual environment
    is_slow: bool = False

    def missing(self) -> str:
        return "" if self._program() else f"{self.name} is not installed (pip install '{self.package}')"

    def version(self) -> str:
        code = f"import importlib.metadata as m; print(m.version('{self.name}'))"
        python = self.home / "bin" / "python" if self.home else Path(sys.executable)
        told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
        return told.stdout.strip()

    @contextmanager
    def running(self, ports: Sequence[int], home: Path) -> Iterator[Running]:
        port = free_port()
        config = home / "config.yaml"
        config.write_text(_litellm_config(ports))
        command = [self._program() or self.name]
        for argument in self.arguments:
            if argument == "{urls}":
                command += [f"http://127.0.0.1:{each}" for each in ports]
            else:
                command.append(argument.format(port=port, policy=self.policy, spare=free_port(), config=config))
        with _process(command, home, dict(each.split("=", 1) for each in self.environment)) as process:
            await_answer(port, key=_KEY)
            yield Running(port=port, pid=process.pid, key=_KEY)

    def _program(self) -> str | None:
        return shutil.which(self.name, path=str(self.home / "bin") if self.home else None)


def peers(home: Path | None) -> Sequence[Peer]:
    """Each by the policy that is most like ours, and quiet."""
    return (
        Peer(
            name="sglang-router",
            package="sglang-router",
            policy="power_of_two",
            cache_policy="cache_aware",
            arguments=(
                *("launch", "--host", "127.0.0.1", "--port", "{port}", "--prometheus-port", "{spare}"),
                *("--policy", "{policy}", "--log-level", "error", "--worker-urls", "{urls}"),
            ),
            home=home,
        ),
        Peer(
            name="vllm-router",
            package="vllm-router",
            policy="power_of_two",
            arguments=(
                *("--host", "127.0.0.1", "--port", "{port}", "--prometheus-port", "{spare}"),
                *("--policy", "{policy}", "--log-level", "error", "--worker-urls", "{urls}"),
            ),
            home=home,
        ),
        Peer(
            name="litellm",
            package="litellm[proxy]",
            arguments=("--host", "127.0.0.1", "--port", "{port}", "--config", "{config}", "--num_workers", "1"),
            environment=(
                *("LITELLM_LOG=ERROR", "LITELLM_LOCAL_MODEL_COST_MAP=True", "LITELLM_MODE=PRODUCTION"),
                f"LITELLM_MASTER_KEY={_KEY}",
            ),
            home=home,
            is_slow=True,
        ),
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def await_answer(port: int, *, key: str) -> None:
    """Until a chat is answered. Raises Failed."""
    deadline = time.monotonic() + _START_WITHIN
    headers = {"authorization": f"Bearer {key}"}
    body = {"model": chats.MODEL, "messages": [{"role": "user", "content": "Are you there?"}]}
    why = "no answer"
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=10, trust_env=False
            )
            if answer.status_code == 200:
                return
            why = answer.text
        except httpx.HTTPError as error:
            why = str(error)
        time.sleep(0.1)
    raise Failed(f"the router on port {port} did not start within {_START_WITHIN:.0f} s: {why}")


@contextmanager
def _process(
    command: Sequence[str], home: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (home / "log").open("wb") as log, machine.pinned(machine.ROUTER_CPU):
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            command, cwd=home, env={**os.environ, **(environment or {})}, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _nginx() -> str:
    """Debian keeps it where only root's PATH leads."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or ""


def _nginx_config(port: int, ports: Sequence[int], home: Path) -> str:
    servers = " ".join(f"server 127.0.0.1:{each};" for each in ports)
    return f"""
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 10000; }}
http {{
  access_log off;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  keepalive_requests 100000000;
  upstream engines {{ least_conn; {servers} keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engines;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def _litellm_config(ports: Sequence[int]) -> str:
    models = "".join(
        f"""
  - model_name: {chats.MODEL}
    litellm_params: {{model: openai/{chats.MODEL}, api_base: "http://127.0.0.1:{port}/v1", api_key: none}}"""
        for port in ports
    )
    return f"model_list:{models}\n"
