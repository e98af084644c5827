"""The worker's agent: runs beside the engine on a rented machine. Standard library only, Python 3.8 and later.

Its life: exchange the one-time bootstrap token for the engine's key, run the engine, tell the router how it is
(heartbeats), and power the machine off when it is forgotten. Time, chance, HTTP and the child are arguments.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Http = Callable[..., tuple[int, bytes]]

log = logging.getLogger("inventiv.agent")

CALL_TIMEOUT = 5.0  # seconds, for each wait of a call to the control plane or the router
PROBE_TIMEOUT = 3.0  # for a look at the engine
LOADING_TICK, SERVING_TICK = 0.2, 1.0  # seconds between two looks at the engine
DRAINING_INTERVAL = 1.0  # seconds between heartbeats while the instance drains
PROBES_MISSED_UNTIL_UNREADY = 3  # a busy engine may answer a probe late
NOTICE_TIMEOUT, NOTICE_INTERVAL = 1.0, 5.0  # for a look at the machine's metadata, and between two, as AWS advises
METADATA_URLS = {"aws": "http://169.254.169.254"}  # by the name of the provider that the spot machine is rented from
IDLE_STOP_PATIENCE = 30.0  # seconds for an engine that serves nothing to end
MAX_ANSWER = 1 << 20  # bytes


def call(
    method: str,
    url: str,
    *,
    body: Any = None,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    timeout: float = CALL_TIMEOUT,
    source: str = "",
) -> tuple[int, bytes]:
    """One HTTP request, its body as JSON; returns (status, body). Goes through no proxy and follows no redirect,
    so that a token reaches only the host it is meant for. `source`: the address of ours that it comes from, where
    there are several. Raises OSError or http.client.HTTPException."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    origin = (source, 0) if source else None
    connection = kind(parts.hostname or "", parts.port, timeout=timeout, source_address=origin)
    sent = {"Content-Type": "application/json", "User-Agent": "inventiv-agent", **(headers or {})}
    if token:
        sent["Authorization"] = "Bearer " + token
    try:
        connection.request(method, parts.path or "/", None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_ANSWER)
    finally:
        connection.close()


class Backoff:
    """Waits that double up to `cap` seconds; chance takes up to half of each away, so that a fleet spreads out."""

    def __init__(self, first: float, cap: float, chance: Callable[[], float]) -> None:
        self.first, self.cap, self.chance, self.failures = first, cap, chance, 0

    def next(self) -> float:
        wait = min(self.cap, self.first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return wait * (1 - self.chance() / 2)

    def reset(self) -> None:
        self.failures = 0


class State:
    """What must outlive a restart, in a file that only we may read: the agent's token and the engine's secrets."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "state.json"
        directory.mkdir(parents=True, exist_ok=True)
        self.values: dict[str, str] = json.loads(self.path.read_text()) if self.path.exists() else {}

    @property
    def engine_environment(self) -> dict[str, str]:
        """The engine's secrets, by the names under which it looks for them."""
        names = {"engine_api_key": "VLLM_API_KEY", "hf_token": "HF_TOKEN"}
        return {name: self.values[value] for value, name in names.items() if self.values.get(value)}

    def save(self, **values: str) -> None:
        self.values.update(values)
        draft = self.path.with_suffix(".new")
        with open(os.open(str(draft), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.values, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(str(draft), str(self.path))


class Engine:
    """The engine as our child process, and what it says of itself over HTTP."""

    def __init__(
        self, command: Sequence[str], url: str, *, http: Http, clock: Callable[[], float], chance: Callable[[], float]
    ) -> None:
        self.command, self.url, self.http, self.clock = list(command), url, http, clock
        self.backoff = Backoff(1.0, 60.0, chance)
        self.child: subprocess.Popen[bytes] | None = None
        self.restart_at = 0.0
        self.ready, self.load, self.missed = False, 0, 0
        self.finished = 0.0  # requests, since the engine started
        self.served_at = clock()
        self.detail = "engine not started"

    def tend(self, environment: dict[str, str]) -> None:
        """Start the engine, or start it again when it has exited; then look how it is."""
        if self.child is not None and self.child.poll() is not None:
            wait = self.backoff.next()
            self.detail = f"engine exited with {self.child.returncode}"
            log.warning("%s; next start in %.1f s", self.detail, wait)
            self.child, self.ready, self.load, self.restart_at = None, False, 0, self.clock() + wait
        if self.child is None and self.clock() >= self.restart_at:
            self._start(environment)
        if self.child is not None:
            self._look()

    def stop(self, *, patience: float | None = None) -> None:
        """Ask the engine to end, and wait: it finishes its running requests first. After `patience` seconds kill it."""
        if self.child is None or self.child.poll() is not None:
            return
        self.child.terminate()
        try:
            self.child.wait(patience)
        except subprocess.TimeoutExpired:
            self.child.kill()

    def _start(self, environment: dict[str, str]) -> None:
        try:
            self.child = subprocess.Popen(self.command, env={**os.environ, **environment})  # noqa: S603 - our own configuration
        except OSError as error:
            self.detail, self.restart_at = f"engine can't be started: {error}", self.clock() + self.backoff.next()
            log.error("%s", self.detail)
            return
        self.detail, self.missed, self.finished = "engine loading", 0, 0.0
        log.info("engine started, process %d", self.child.pid)

    def _look(self) -> None:
        try:
            healthy = self.http("GET", self.url + "/health", timeout=PROBE_TIMEOUT)[0] == 200
            if healthy:
                self._measure(self.http("GET", self.url + "/metrics", timeout=PROBE_TIMEOUT)[1].decode())
        except (OSError, http.client.HTTPException, ValueError):
            healthy = False
        if healthy:
            self.ready, self.missed, self.detail = True, 0, "engine ready"
            self.backoff.reset()
            return
        self.missed += 1
        if self.ready and self.missed >= PROBES_MISSED_UNTIL_UNREADY:
            self.ready, self.detail = False, "engine does not answer its health check"

    def _measure(self, metrics: str) -> None:
        self.load = int(total(metrics, "vllm:num_requests_running") + total(metrics, "vllm:num_requests_waiting"))
        finished = total(metrics, "vllm:request_success_total")
        if self.load or finished != self.finished:
            self.served_at = self.clock()
        self.finished = finished


def total(metrics: str, name: str) -> float:
    """The sum of a metric over its labels, from Prometheus' text."""
    lines = (line for line in metrics.splitlines() if line.startswith((name + "{", name + " ")))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Notice:
    """The provider's word that it takes a spot machine back. AWS's metadata service (IMDSv2) has it two minutes ahead
    at `spot/instance-action`, which is not found until then."""

    def __init__(self, url: str, *, http: Http, clock: Callable[[], float]) -> None:
        self.url, self.http, self.clock = url, http, clock
        self.next_look = clock()
        self.instant = ""  # when, as the provider writes it; empty: nothing is announced

    def look(self) -> None:
        if self.instant or self.clock() < self.next_look:
            return
        self.next_look = self.clock() + NOTICE_INTERVAL
        try:
            self.instant = self._announced()
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.debug("%s: %s", self.url, error)
        if self.instant:
            log.warning("the provider takes this machine back: %s", self.instant)

    def _announced(self) -> str:
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        status, token = self.http("PUT", self.url + "/latest/api/token", headers=lifetime, timeout=NOTICE_TIMEOUT)
        if status != 200:
            return ""
        shown = {"X-aws-ec2-metadata-token": token.decode()}
        path = "/latest/meta-data/spot/instance-action"
        status, raw = self.http("GET", self.url + path, headers=shown, timeout=NOTICE_TIMEOUT)
        if status != 200:
            return ""
        action = json.loads(raw)
        return str(action.get("time") if isinstance(action, dict) else action)[:40]


class Agent:
    """`step` does what is due and never sleeps; `run` calls it until it is told to stop."""

    def __init__(
        self,
        config: dict[str, Any],
        *,
        state: State,
        engine: Engine,
        power_off: Callable[[], object],
        notice: Notice | None = None,
        http: Http = call,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.config, self.state, self.engine, self.notice = config, state, engine, notice
        self.power_off, self.http, self.clock, self.chance = power_off, http, clock, chance
        self.bootstrap_backoff = Backoff(0.5, 15.0, chance)
        self.heartbeat_backoff = Backoff(0.5, float(config["heartbeat_interval"]), chance)
        self.next_call, self.heard_at = clock(), clock()
        self.draining, self.told_ready, self.told_interruption, self.status = False, False, "", -1

    def run(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            wait = self.step()
            if self.forgotten():
                log.error("nothing heard and nothing served for %s s: powering off", self.config["poweroff_after"])
                self.engine.stop(patience=IDLE_STOP_PATIENCE)
                self.power_off()
                return
            stopped.wait(wait)
        if self.state.values.get("engine_api_key"):
            self._heartbeat(ready=False, detail="agent stopping")
        self.engine.stop()

    def step(self) -> float:
        """Returns the seconds until the next step."""
        if "engine_api_key" not in self.state.values and self.clock() >= self.next_call:
            self._bootstrap()
        if "engine_api_key" in self.state.values:
            self.engine.tend(self.state.engine_environment)
            if self.notice is not None:
                self.notice.look()
            ready = self.engine.ready and not self.draining
            is_news = (ready, self.interruption) != (self.told_ready, self.told_interruption)
            if is_news or self.clock() >= self.next_call:
                self._heartbeat(ready=ready, detail=self.engine.detail)
        tick = SERVING_TICK if self.engine.ready else LOADING_TICK
        return max(0.0, min(tick, self.next_call - self.clock()))

    @property
    def interruption(self) -> str:
        return "" if self.notice is None else self.notice.instant

    def forgotten(self) -> bool:
        """Neither the control plane nor a client has shown an interest for `poweroff_after` seconds."""
        return self.clock() - max(self.heard_at, self.engine.served_at) > float(self.config["poweroff_after"])

    def _bootstrap(self) -> None:
        """Exchange the bootstrap token. Our own token is on disk before it is sent, so that an exchange whose
        answer was lost can be repeated: with the same token, it is the same exchange."""
        if "agent_token" not in self.state.values:
            self.state.save(agent_token=secrets.token_urlsafe(32))
        body = {
            "instance_id": self.config["instance_id"],
            "bootstrap_token": self.config["bootstrap_token"],
            "agent_token": self.state.values["agent_token"],
        }
        status, answer = self._post(self.config["control_plane_url"] + "/internal/workers/bootstrap", body)
        if status == 200 and isinstance(answer.get("engine_api_key"), str):
            self.state.save(engine_api_key=answer["engine_api_key"], hf_token=str(answer.get("hf_token") or ""))
            self.next_call = self.clock()
            log.info("registered as %s", self.config["instance_id"])
        elif 400 <= status < 500 and status not in (408, 429):
            self.next_call = float("inf")  # final; the power-off clock ends the machine
            log.error("the control plane refused us (%d)", status)
        else:
            wait = self.bootstrap_backoff.next()
            self.next_call = self.clock() + wait
            log.warning("bootstrap got %s; again in %.1f s", status or "no answer", wait)

    def _heartbeat(self, *, ready: bool, detail: str) -> None:
        body = {"instance_id": self.config["instance_id"], "ready": ready, "load": self.engine.load, "detail": detail}
        if self.interruption:
            body["interruption"] = self.interruption
        token = self.state.values["agent_token"]
        status, answer = self._post(self.config["router_url"] + "/internal/heartbeat", body, token=token)
        self.told_ready, self.told_interruption = ready, self.interruption
        if status != self.status:
            log.info("heartbeat: %s", status or "no answer")
            self.status = status
        if status != 200:
            self.next_call = self.clock() + self.heartbeat_backoff.next()
            return
        self.heartbeat_backoff.reset()
        if self.draining != (answer.get("drain") is True):
            self.draining = not self.draining
            log.info("draining" if self.draining else "no longer draining")
        interval = DRAINING_INTERVAL if self.draining else float(self.config["heartbeat_interval"])
        self.next_call = self.clock() + interval * (1 - self.chance() / 10)

    def _post(self, url: str, body: dict[str, str], *, token: str = "") -> tuple[int, dict[str, Any]]:
        """Returns the status (0: no answer) and the answer ({} unless it is a JSON object)."""
        try:
            status, raw = self.http("POST", url, body=body, token=token)
        except (OSError, http.client.HTTPException) as error:
            log.debug("%s: %s", url, error)
            return 0, {}
        if 200 <= status < 300:
            self.heard_at = self.clock()
        try:
            answer = json.loads(raw)
        except ValueError:
            return status, {}
        return status, answer if isinstance(answer, dict) else {}


def build(config: dict[str, Any], *, state_dir: str = "") -> Agent:
    """The agent of a real process: the system's clock, and what the environment overrides."""
    command = json.loads(os.environ.get("INVENTIV_ENGINE_COMMAND", "null")) or config["engine"]["command"]
    power_off = json.loads(os.environ.get("INVENTIV_POWEROFF_COMMAND", "null")) or ["systemctl", "poweroff"]
    url = os.environ.get("INVENTIV_ENGINE_URL") or "http://127.0.0.1:{}".format(config["engine"]["port"])
    engine = Engine(command, url, http=call, clock=time.monotonic, chance=random.random)
    state = State(Path(state_dir or config["state_dir"]))
    # The router believes a heartbeat only from the machine's own address.
    http = partial(call, source=os.environ.get("INVENTIV_SOURCE_ADDRESS", ""))
    metadata = os.environ.get("INVENTIV_METADATA_URL") or METADATA_URLS.get(config.get("spot", ""))
    return Agent(
        config,
        state=state,
        engine=engine,
        power_off=lambda: subprocess.call(power_off),  # noqa: S603 - our own configuration
        notice=Notice(metadata, http=call, clock=time.monotonic) if metadata else None,
        http=http,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Inventiv's agent on a worker's machine.")
    parser.add_argument("--config", default="/etc/inventiv/agent.json", help="default: %(default)s")
    parser.add_argument("--state-dir", default="", help="instead of the configuration's state_dir")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        agent = build(json.loads(Path(arguments.config).read_text()), state_dir=arguments.state_dir)
    except (OSError, ValueError, KeyError) as error:
        print(f"inventiv-agent: {arguments.config}: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    agent.run(stopped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
