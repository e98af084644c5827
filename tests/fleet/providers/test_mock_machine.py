"""A whole machine of the mock cloud: user data, agent and simulated engine, in their own processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from fleet.agent.cloud_init import render
from fleet.providers.base import ServerState, ServerView
from fleet.providers.mock import machine, power
from tests.fleet.agent.surroundings import BOOTSTRAP, ENGINE_KEY, HEARTBEAT, Surroundings, some_surroundings
from tests.fleet.agent.test_cloud_init import CONFIG
from tests.fleet.providers.conformance import a_spec, destroy, look
from tests.fleet.providers.conftest import MockCloud
from tests.fleet.providers.waiting import eventually


@pytest.fixture
def around() -> Iterator[Surroundings]:
    with some_surroundings() as surroundings:
        yield surroundings


@pytest.fixture
def booted(cloud: MockCloud, around: Surroundings) -> ServerView:
    """A machine whose worker has just said that it is ready."""
    config = replace(CONFIG, control_plane_url=around.url, router_url=around.url, heartbeat_interval=0.2)
    view = cloud.driver().ensure_server(replace(a_spec(cloud), user_data=render(config)))
    cloud.driver().start(view.handle)
    eventually(lambda: around.heartbeats and around.heartbeats[-1]["ready"])
    cloud.pass_time(1)
    return look(cloud, view.handle)


def silent(around: Surroundings) -> None:
    """Wait until no heartbeat has come for longer than five intervals."""
    seen = [-1, 0]

    def nothing_new() -> bool:
        seen.append(len(around.requests))
        return len(seen) > 100 and seen[-1] == seen[-100]

    eventually(nothing_new)


def test_it_serves_its_model_at_its_own_address_with_the_key_of_the_exchange(
    booted: ServerView, cloud: MockCloud
) -> None:
    url = f"http://{booted.ip_address}:{CONFIG.port}"

    models = httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {ENGINE_KEY}"}, timeout=5).json()

    assert booted.state is ServerState.RUNNING
    assert models["data"][0]["id"] == CONFIG.model_id
    assert models["data"][0]["max_model_len"] == CONFIG.max_model_len
    assert httpx.get(f"{url}/v1/models", timeout=5).status_code == 401


def test_it_speaks_from_its_own_address(booted: ServerView, around: Surroundings) -> None:
    assert {request.path for request in around.requests} == {BOOTSTRAP, HEARTBEAT}
    assert {request.peer for request in around.requests} == {booted.ip_address}


def test_killed_it_stops_as_a_whole_falls_silent_and_is_destroyed(
    booted: ServerView, cloud: MockCloud, around: Surroundings
) -> None:
    main, engine = machine.processes(booted.handle.server_id)
    assert engine != main

    power.kill(cloud.home, booted.handle.server_id)

    eventually(lambda: look(cloud, booted.handle).state is ServerState.STOPPED)
    eventually(lambda: not machine.processes(booted.handle.server_id))
    silent(around)
    destroy(cloud, booted.handle)
    assert cloud.billed() == 0


def test_its_engine_does_not_outlive_its_main_process(booted: ServerView, cloud: MockCloud) -> None:
    main, _ = machine.processes(booted.handle.server_id)

    os.kill(main, signal.SIGKILL)

    eventually(lambda: not machine.processes(booted.handle.server_id))


def test_frozen_it_is_silent_yet_running_by_the_providers_word_and_thawed_it_goes_on(
    booted: ServerView, cloud: MockCloud, around: Surroundings
) -> None:
    power.freeze(cloud.home, booted.handle.server_id)
    silent(around)
    assert look(cloud, booted.handle).state is ServerState.RUNNING
    before = len(around.heartbeats)

    power.thaw(cloud.home, booted.handle.server_id)

    eventually(lambda: len(around.heartbeats) > before)


def test_a_frozen_machine_can_be_destroyed(booted: ServerView, cloud: MockCloud) -> None:
    power.freeze(cloud.home, booted.handle.server_id)

    destroy(cloud, booted.handle)

    assert machine.processes(booted.handle.server_id) == []


def test_after_a_power_cut_the_agent_takes_up_its_saved_token_at_the_same_address(
    booted: ServerView, cloud: MockCloud, around: Surroundings
) -> None:
    assert power.suspend(cloud.home) == 1
    assert machine.processes(booted.handle.server_id) == []
    before = len(around.heartbeats)

    power.resume(cloud.home, now=cloud.now)

    eventually(lambda: len(around.heartbeats) > before and around.heartbeats[-1]["ready"])
    cloud.pass_time(1)
    assert look(cloud, booted.handle).ip_address == booted.ip_address
    assert len(around.sent(BOOTSTRAP)) == 1
    assert len({request.authorization for request in around.requests} - {""}) == 1


def test_an_agent_that_is_forgotten_powers_its_machine_off(cloud: MockCloud, around: Surroundings) -> None:
    around.heartbeat = 404
    config = replace(
        CONFIG, control_plane_url=around.url, router_url=around.url, heartbeat_interval=0.2, poweroff_after=0.5
    )
    view = cloud.driver().ensure_server(replace(a_spec(cloud), user_data=render(config)))

    cloud.driver().start(view.handle)

    eventually(lambda: look(cloud, view.handle).state is ServerState.STOPPED)
    eventually(lambda: not machine.processes(view.handle.server_id))


def test_it_speaks_at_the_speed_that_was_set_and_boots_as_late(cloud: MockCloud, around: Surroundings) -> None:
    cloud.chaos("load_seconds", "3600")
    cloud.chaos("tokens_per_second", "7")
    config = replace(CONFIG, control_plane_url=around.url, router_url=around.url, heartbeat_interval=0.2)
    view = cloud.driver().ensure_server(replace(a_spec(cloud), user_data=render(config)))

    cloud.driver().start(view.handle)

    eventually(lambda: len(machine.processes(view.handle.server_id)) == 2 and len(around.heartbeats) > 3)
    engine = machine.processes(view.handle.server_id)[1]
    arguments = eventually(lambda: Path(f"/proc/{engine}/cmdline").read_bytes()).split(b"\0")
    assert arguments[arguments.index(b"--tokens-per-second") + 1] == b"7.0"
    assert not around.heartbeats[-1]["ready"]
    assert around.heartbeats[-1]["detail"] == "engine loading"


@pytest.fixture
def booted_spot(cloud: MockCloud, around: Surroundings) -> ServerView:
    config = replace(CONFIG, control_plane_url=around.url, router_url=around.url, heartbeat_interval=0.2, spot="mock")
    view = cloud.driver().ensure_server(replace(a_spec(cloud), user_data=render(config), spot=True))
    cloud.driver().start(view.handle)
    eventually(lambda: around.heartbeats and around.heartbeats[-1]["ready"])
    return view


def test_a_spot_machine_hears_that_it_is_taken_back_and_says_so(
    booted_spot: ServerView, cloud: MockCloud, around: Surroundings
) -> None:
    _, at = power.interrupt(cloud.home, booted_spot.handle.server_id, now=datetime.now(UTC))

    eventually(lambda: "interruption" in around.heartbeats[-1])
    assert around.heartbeats[-1]["interruption"] == f"{at:%Y-%m-%dT%H:%M:%SZ}"
    _, again = power.interrupt(cloud.home, booted_spot.handle.server_id, now=datetime.now(UTC) + timedelta(minutes=1))
    assert again == at


def test_a_spot_machine_is_taken_back_as_a_whole_at_the_announced_instant(
    booted_spot: ServerView, cloud: MockCloud
) -> None:
    power.interrupt(cloud.home, booted_spot.handle.server_id, now=datetime.now(UTC) - power.NOTICE)

    eventually(lambda: not machine.processes(booted_spot.handle.server_id))
    assert look(cloud, booted_spot.handle).state is ServerState.STOPPED


def test_the_metadata_service_of_a_spot_machine_does_not_outlive_its_main_process(booted_spot: ServerView) -> None:
    main, *others = machine.processes(booted_spot.handle.server_id)
    assert len(others) == 2

    os.kill(main, signal.SIGKILL)

    eventually(lambda: not machine.processes(booted_spot.handle.server_id))


def test_a_machine_whose_user_data_is_nonsense_stays_up_without_a_worker_and_says_why(cloud: MockCloud) -> None:
    view = cloud.driver().ensure_server(replace(a_spec(cloud), user_data="#cloud-config\nnonsense"))

    cloud.driver().start(view.handle)

    console = machine.directory(cloud.home, view.handle.server_id) / "console.log"
    eventually(lambda: console.exists() and "JSONDecodeError" in console.read_text())
    cloud.pass_time(1)
    assert look(cloud, view.handle).state is ServerState.RUNNING
