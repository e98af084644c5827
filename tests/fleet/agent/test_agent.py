"""The worker's agent, step by step: real HTTP, a real child process, and a clock that the test moves."""

from __future__ import annotations

import ast
import json
import stat
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fleet.agent import agent as agent_module
from fleet.agent.agent import Agent, Backoff, Engine, Notice, State, call
from tests.fleet.agent.surroundings import BOOTSTRAP, ENGINE_KEY, HEARTBEAT, Clock, Surroundings, some_surroundings
from tests.fleet.providers.waiting import eventually

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
INTERVAL, POWEROFF_AFTER = 5.0, 3600.0


class Worker:
    """An agent with its surroundings."""

    def __init__(self, around: Surroundings, directory: Path, command: list[str], *, spot: bool = False) -> None:
        self.around, self.directory, self.command = around, directory, command
        self.clock = Clock()
        self.powered_off = 0
        self.spot = spot
        self.agent = self.boot()

    def boot(self) -> Agent:
        """Start the agent's process anew, on the same disk."""
        config: dict[str, Any] = {
            "instance_id": "instance-1",
            "bootstrap_token": "bootstrap-token",
            "control_plane_url": self.around.url,
            "router_url": self.around.url,
            "heartbeat_interval": INTERVAL,
            "poweroff_after": POWEROFF_AFTER,
        }
        engine = Engine(self.command, self.around.url, http=call, clock=self.clock, chance=lambda: 0.0)
        self.agent = Agent(
            config,
            state=State(self.directory),
            engine=engine,
            power_off=self._power_off,
            notice=Notice(self.around.url, http=call, clock=self.clock) if self.spot else None,
            clock=self.clock,
            chance=lambda: 0.0,
        )
        return self.agent

    def step(self, *, after: float = 0.0) -> None:
        self.clock.pass_time(after)
        self.agent.step()

    def _power_off(self) -> None:
        self.powered_off += 1

    @property
    def saved(self) -> dict[str, str]:
        saved: dict[str, str] = json.loads((self.directory / "state.json").read_text())
        return saved


@pytest.fixture
def around() -> Iterator[Surroundings]:
    with some_surroundings() as surroundings:
        yield surroundings


@pytest.fixture
def worker(around: Surroundings, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(around, tmp_path / "state", SLEEPER)
    yield worker
    worker.agent.engine.stop(patience=5)


# --- bootstrap ------------------------------------------------------------------------------------------------------


def test_it_exchanges_its_bootstrap_token_once_and_heartbeats_at_once(worker: Worker, around: Surroundings) -> None:
    worker.step()

    (exchange,) = around.sent(BOOTSTRAP)
    (heartbeat,) = around.sent(HEARTBEAT)
    token = worker.saved["agent_token"]
    assert exchange.body == {
        "instance_id": "instance-1",
        "bootstrap_token": "bootstrap-token",
        "agent_token": token,
    }
    assert heartbeat.authorization == f"Bearer {token}"
    assert heartbeat.body == {"instance_id": "instance-1", "ready": False, "load": 0, "detail": "engine loading"}


def test_it_saves_its_token_before_it_asks_where_only_it_can_read(worker: Worker, around: Surroundings) -> None:
    around.bootstrap = 0

    worker.step()

    assert worker.saved["agent_token"] == around.sent(BOOTSTRAP)[0].body["agent_token"]
    assert stat.S_IMODE((worker.directory / "state.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("failure", [0, 500, 503, 408, 429])
def test_it_repeats_an_exchange_that_failed_with_the_same_token_even_after_a_restart(
    worker: Worker, around: Surroundings, failure: int
) -> None:
    around.bootstrap = failure
    worker.step()
    worker.boot()
    worker.step()
    around.bootstrap = 200
    worker.step(after=60)

    exchanges = around.sent(BOOTSTRAP)
    assert len(exchanges) == 3
    assert len({exchange.body["agent_token"] for exchange in exchanges}) == 1
    assert worker.saved["engine_api_key"] == ENGINE_KEY


def test_it_waits_longer_after_each_failed_exchange(worker: Worker, around: Surroundings) -> None:
    around.bootstrap = 503

    instants = []
    for _ in range(1200):
        before = len(around.requests)
        worker.step(after=0.1)
        if len(around.requests) > before:
            instants.append(worker.clock.now)

    waits = [later - earlier for earlier, later in pairwise(instants)]
    assert waits[:5] == pytest.approx([0.5, 1, 2, 4, 8], abs=0.11)
    assert max(waits) == pytest.approx(15, abs=0.11)


@pytest.mark.parametrize("refusal", [400, 401, 403, 404, 422])
def test_it_never_repeats_an_exchange_that_was_refused(worker: Worker, around: Surroundings, refusal: int) -> None:
    around.bootstrap = refusal

    for _ in range(20):
        worker.step(after=60)

    assert len(around.requests) == 1
    assert worker.agent.engine.child is None


def test_it_takes_up_what_it_saved_when_it_is_restarted(worker: Worker, around: Surroundings) -> None:
    worker.step()
    worker.agent.engine.stop(patience=5)
    worker.boot()
    worker.step()

    assert len(around.sent(BOOTSTRAP)) == 1
    assert len({heartbeat.authorization for heartbeat in around.sent(HEARTBEAT)}) == 1


def test_it_sends_its_tokens_to_nobody_that_it_is_redirected_to(worker: Worker, around: Surroundings) -> None:
    with some_surroundings() as stranger:
        around.bootstrap, around.location = 307, stranger.url + BOOTSTRAP
        worker.step()

        assert stranger.requests == []


# --- the engine -----------------------------------------------------------------------------------------------------


def test_it_gives_the_engine_its_key_in_the_environment(around: Surroundings, tmp_path: Path) -> None:
    out = tmp_path / "key"
    code = f"import os, pathlib; pathlib.Path({str(out)!r}).write_text(os.environ['VLLM_API_KEY'])"
    worker = Worker(around, tmp_path / "state", [sys.executable, "-S", "-c", code])

    worker.step()

    assert eventually(lambda: out.exists() and out.read_text()) == ENGINE_KEY


@pytest.mark.parametrize(("token", "seen"), [("hf_secret", "hf_secret"), ("", "none")])
def test_it_gives_the_engine_the_token_for_models_behind_a_licence_after_a_restart_too(
    around: Surroundings, tmp_path: Path, token: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    around.hf_token, out = token, tmp_path / "token"
    code = f"import os, pathlib; pathlib.Path({str(out)!r}).write_text(os.environ.get('HF_TOKEN', 'none'))"
    worker = Worker(around, tmp_path / "state", [sys.executable, "-S", "-c", code])

    for _ in range(2):
        worker.step()
        assert eventually(lambda: out.exists() and out.read_text()) == seen
        out.unlink()
        worker.boot()

    assert len(around.sent(BOOTSTRAP)) == 1
    assert not token or token not in str([request.body for request in around.requests])


def test_it_tells_at_once_that_the_engine_has_become_ready(worker: Worker, around: Surroundings) -> None:
    worker.step()
    around.health = 200

    worker.step()

    assert [heartbeat["ready"] for heartbeat in around.heartbeats] == [False, True]


def test_it_heartbeats_every_interval_with_the_engines_true_load(worker: Worker, around: Surroundings) -> None:
    around.health, around.running, around.waiting = 200, 2, 3

    for _ in range(11):
        worker.step(after=1)

    assert [heartbeat["load"] for heartbeat in around.heartbeats] == [5, 5, 5]


def test_one_late_answer_does_not_make_the_engine_unready_but_three_do(worker: Worker, around: Surroundings) -> None:
    around.health = 200
    worker.step()
    around.health = 503
    worker.step(after=1)
    worker.step(after=1)
    assert worker.agent.engine.ready

    worker.step(after=1)

    assert not around.heartbeats[-1]["ready"]


def test_it_starts_an_engine_that_exits_again_after_longer_and_longer_waits(
    around: Surroundings, tmp_path: Path
) -> None:
    worker = Worker(around, tmp_path / "state", [sys.executable, "-S", "-c", "raise SystemExit(3)"])
    started = []
    for _ in range(4):
        worker.step()
        child = worker.agent.engine.child
        assert child is not None
        started.append(worker.clock.now)
        child.wait()
        worker.step()
        assert worker.agent.engine.child is None
        assert worker.agent.engine.detail == "engine exited with 3"
        while worker.clock.now < worker.agent.engine.restart_at:
            worker.clock.pass_time(0.5)

    assert [later - earlier for earlier, later in pairwise(started)] == [1, 2, 4]


def test_it_lives_on_when_the_engine_cant_be_started_and_says_so(around: Surroundings, tmp_path: Path) -> None:
    worker = Worker(around, tmp_path / "state", ["/no/such/engine"])

    worker.step()

    assert "can't be started" in around.heartbeats[0]["detail"]
    assert not around.heartbeats[0]["ready"]


# --- heartbeats and draining ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [0, 401, 404, 500, 503])
def test_it_keeps_trying_when_a_heartbeat_fails_sooner_than_the_interval_at_first(
    worker: Worker, around: Surroundings, failure: int
) -> None:
    around.heartbeat = failure
    for _ in range(120):
        worker.step(after=0.5)
    failed = len(around.heartbeats)
    around.heartbeat = 200
    worker.step(after=INTERVAL)

    assert 13 <= failed <= 16  # 0.5, 1, 2, 4, and then every 5 s of the minute
    assert len(around.heartbeats) == failed + 1
    assert worker.agent.engine.child is not None


def test_told_to_drain_it_is_unready_heartbeats_each_second_and_lets_the_engine_serve(
    worker: Worker, around: Surroundings
) -> None:
    around.health, around.running = 200, 1
    worker.step()
    around.drain = True
    worker.step(after=INTERVAL)
    told = len(around.heartbeats)

    for _ in range(5):
        worker.step(after=1)

    assert [(beat["ready"], beat["load"]) for beat in around.heartbeats[told:]] == [(False, 1)] * 5
    assert worker.agent.engine.child is not None
    assert worker.agent.engine.child.poll() is None


def test_it_is_ready_again_when_it_need_not_drain_any_more(worker: Worker, around: Surroundings) -> None:
    around.health, around.drain = 200, True
    worker.step()
    worker.step(after=1)
    around.drain = False
    worker.step(after=1)
    worker.step()

    assert around.heartbeats[-1]["ready"]


def test_it_wakes_up_in_time_for_the_next_heartbeat(worker: Worker, around: Surroundings) -> None:
    around.health = 200
    worker.step()

    first = worker.clock.now
    wait = worker.agent.step()
    while len(around.heartbeats) == 1:
        assert 0 < wait <= 1
        worker.clock.pass_time(wait)
        wait = worker.agent.step()

    assert worker.clock.now - first == pytest.approx(INTERVAL)


# --- a spot machine -------------------------------------------------------------------------------------------------


@pytest.fixture
def spot(around: Surroundings, tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(around, tmp_path / "state", SLEEPER, spot=True)
    yield worker
    worker.agent.engine.stop(patience=5)


def test_it_tells_at_once_that_its_machine_is_taken_back_and_goes_on_telling(
    spot: Worker, around: Surroundings
) -> None:
    spot.step()
    around.notice = '{"action": "terminate", "time": "2026-03-01T12:02:00Z"}'
    for _ in range(11):
        spot.step(after=1)

    told = [heartbeat.get("interruption") for heartbeat in around.heartbeats]
    assert told == [None, "2026-03-01T12:02:00Z", "2026-03-01T12:02:00Z"]


def test_it_tells_a_notice_between_two_heartbeats_without_waiting_for_the_next(
    spot: Worker, around: Surroundings
) -> None:
    spot.step()
    spot.agent.next_call = spot.clock() + 1000
    around.notice = '{"action": "stop", "time": "2026-03-01T12:02:00Z"}'

    spot.step(after=5)

    assert around.heartbeats[-1]["interruption"] == "2026-03-01T12:02:00Z"


def test_it_looks_for_a_notice_every_five_seconds_until_there_is_one(spot: Worker, around: Surroundings) -> None:
    for _ in range(60):
        spot.step(after=0.5)
    assert around.looks == 6

    around.notice = '{"action": "terminate", "time": "2026-03-01T12:02:00Z"}'
    for _ in range(60):
        spot.step(after=0.5)
    assert around.looks == 7


@pytest.mark.parametrize("failure", [0, 403, 500])
def test_a_metadata_service_that_fails_does_not_disturb_it(spot: Worker, around: Surroundings, failure: int) -> None:
    around.metadata = failure

    for _ in range(11):
        spot.step(after=1)

    assert len(around.heartbeats) == 3
    assert "interruption" not in around.heartbeats[-1]


@pytest.mark.parametrize("notice", ['{"action": "terminate"}', "[]", '"x"'])
def test_a_notice_in_words_that_it_does_not_know_is_a_notice(spot: Worker, around: Surroundings, notice: str) -> None:
    around.notice = notice

    spot.step()

    assert around.heartbeats[-1]["interruption"]


def test_a_machine_of_the_usual_kind_asks_for_no_notice(worker: Worker, around: Surroundings) -> None:
    worker.step(after=10)

    assert around.looks == 0


# --- power-off ------------------------------------------------------------------------------------------------------


def test_it_powers_the_machine_off_once_it_is_forgotten(worker: Worker, around: Surroundings) -> None:
    worker.step()
    child = worker.agent.engine.child
    around.heartbeat = 404  # an answer, but nobody who knows it
    worker.clock.pass_time(POWEROFF_AFTER + 1)

    worker.agent.run(threading.Event())

    assert worker.powered_off == 1
    assert child is not None
    assert child.poll() is not None


def test_it_is_not_forgotten_before_its_time(worker: Worker, around: Surroundings) -> None:
    worker.step()
    around.heartbeat = 0

    worker.step(after=POWEROFF_AFTER - 1)

    assert not worker.agent.forgotten()


def test_a_machine_that_was_never_registered_is_powered_off_too(worker: Worker, around: Surroundings) -> None:
    around.bootstrap = 403
    worker.step()
    worker.clock.pass_time(POWEROFF_AFTER + 1)

    worker.agent.run(threading.Event())

    assert worker.powered_off == 1


def test_it_is_not_forgotten_while_requests_run(worker: Worker, around: Surroundings) -> None:
    around.health, around.running = 200, 1
    worker.step()
    around.heartbeat = 0

    worker.step(after=2 * POWEROFF_AFTER)
    assert not worker.agent.forgotten()

    around.running = 0
    worker.step(after=POWEROFF_AFTER - 1)
    assert not worker.agent.forgotten()
    worker.step(after=2)
    assert worker.agent.forgotten()


def test_a_request_too_short_to_be_seen_running_counts_as_served(worker: Worker, around: Surroundings) -> None:
    around.health = 200
    worker.step()
    around.heartbeat = 0
    worker.step(after=POWEROFF_AFTER - 1)
    around.finished += 1

    worker.step(after=2)

    assert not worker.agent.forgotten()


# --- the file -------------------------------------------------------------------------------------------------------


def test_chance_takes_at_most_half_of_a_wait_away() -> None:
    assert [Backoff(2, 60, lambda: 0.0).next(), Backoff(2, 60, lambda: 1.0).next()] == [2, 1]


def test_it_is_one_file_that_python_3_8_reads_and_that_needs_the_standard_library_only() -> None:
    tree = ast.parse(Path(agent_module.__file__).read_text(), feature_version=(3, 8))

    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names | {"__future__"}
