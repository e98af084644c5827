"""The agent as a process, with the simulated engine as its child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import openai
import pytest

from fleet.agent import agent as agent_module
from fleet.agent import cloud_init
from fleet.providers.mock import machine
from tests.fleet.agent.surroundings import ENGINE_KEY, Surroundings, some_surroundings
from tests.fleet.agent.test_cloud_init import CONFIG
from tests.fleet.providers.waiting import eventually

PORT = 8000


@pytest.fixture
def around() -> Iterator[Surroundings]:
    with some_surroundings() as surroundings:
        yield surroundings


@contextmanager
def an_agent(
    around: Surroundings, directory: Path, address: str, *, poweroff_after: float = 60
) -> Iterator[subprocess.Popen[bytes]]:
    config = replace(
        CONFIG,
        control_plane_url=around.url,
        router_url=around.url,
        heartbeat_interval=0.2,
        poweroff_after=poweroff_after,
    )
    path = directory / "agent.json"
    path.write_text(json.dumps(cloud_init.agent_config(config)))
    engine = [sys.executable, "-m", "fleet.providers.mock.engine", "--model", config.model_id, "--host", address]
    environment = {
        **os.environ,
        "INVENTIV_ENGINE_COMMAND": json.dumps([*engine, "--port", str(PORT), "--ttft", "0"]),
        "INVENTIV_ENGINE_URL": f"http://{address}:{PORT}",
        "INVENTIV_POWEROFF_COMMAND": json.dumps(["touch", str(directory / "powered-off")]),
    }
    command = [sys.executable, agent_module.__file__, "--config", str(path), "--state-dir", str(directory / "state")]
    agent = subprocess.Popen(command, env=environment)
    try:
        yield agent
    finally:
        agent.terminate()
        agent.wait(30)


def test_it_brings_the_engine_up_and_sigterm_lets_a_stream_end_whole(around: Surroundings, tmp_path: Path) -> None:
    address = machine.free_address(set())
    with an_agent(around, tmp_path, address) as agent:
        eventually(lambda: around.heartbeats and around.heartbeats[-1]["ready"])
        client = openai.OpenAI(base_url=f"http://{address}:{PORT}/v1", api_key=ENGINE_KEY, max_retries=0)
        stream = client.chat.completions.create(
            model=CONFIG.model_id, messages=[{"role": "user", "content": "hello"}], stream=True, max_tokens=40
        )
        next(iter(stream))
        eventually(lambda: around.heartbeats[-1]["load"] == 1)

        agent.send_signal(signal.SIGTERM)

        assert list(stream)[-1].choices[0].finish_reason == "length"
        assert agent.wait(10) == 0
    assert not around.heartbeats[-1]["ready"]
    assert around.heartbeats[-1]["detail"] == "agent stopping"


def test_it_powers_off_when_nobody_knows_it(around: Surroundings, tmp_path: Path) -> None:
    around.heartbeat = 404

    with an_agent(around, tmp_path, machine.free_address(set()), poweroff_after=1) as agent:
        assert agent.wait(15) == 0
    assert (tmp_path / "powered-off").exists()


def test_a_configuration_that_cant_be_read_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, agent_module.__file__, "--config", str(tmp_path / "none.json")]

    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert "none.json" in ended.stderr
