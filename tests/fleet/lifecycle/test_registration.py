from __future__ import annotations

import logging
from typing import Any

import pytest

from fleet import worker_keys
from fleet.lifecycle import registration
from fleet.lifecycle.registration import AddressNotConfirmed, BootstrapRefused, WorkerSecrets
from fleet.models import Instance
from fleet.providers.base import Unavailable
from fleet.states import Status
from tests.fleet.stage import AGENT_TOKEN, Stage


def exchange(
    stage: Stage,
    instance: Instance,
    *,
    token: str | None = None,
    agent_token: str = AGENT_TOKEN,
    address: str | None = None,
) -> WorkerSecrets:
    if token is None:
        token = worker_keys.bootstrap_token(instance.attempts.latest("ordinal").pk)
    return registration.exchange(
        instance_id=instance.pk,
        bootstrap_token=token,
        agent_token=agent_token,
        address=str(instance.ip_address) if address is None else address,
        now=stage.clock(),
        world=stage.world,
    )


@pytest.fixture
def booting(stage: Stage) -> Instance:
    return stage.step(stage.deploy())


def test_the_token_is_traded_for_the_engines_key(stage: Stage, booting: Instance) -> None:
    key = exchange(stage, booting).engine_api_key

    booting.refresh_from_db()
    assert worker_keys.open_engine_key(str(booting.api_key)) == key
    assert key not in str(booting.api_key)
    assert booting.agent_token_sha256 == worker_keys.sha256(AGENT_TOKEN)


def test_a_repetition_by_the_same_agent_is_answered_again(stage: Stage, booting: Instance) -> None:
    assert exchange(stage, booting) == exchange(stage, booting)


def test_a_second_exchange_by_somebody_else_is_refused_and_alarms(
    stage: Stage, booting: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    exchange(stage, booting)

    with pytest.raises(BootstrapRefused, match="used before"):
        exchange(stage, booting, agent_token="another-agent-token-of-32-characters")

    assert "ALARM" in caplog.text


def test_a_token_for_models_behind_a_licence_comes_with_the_key_and_never_in_user_data(
    stage: Stage, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.HF_TOKEN = "hf_canary"
    caplog.set_level(logging.DEBUG)
    instance = stage.step(stage.deploy())

    trusted = exchange(stage, instance)

    assert trusted.hf_token == "hf_canary"
    assert not [text for text in (*stage.cloud.user_data.values(), caplog.text, repr(trusted)) if "hf_canary" in text]


def test_a_wrong_token_is_refused(stage: Stage, booting: Instance) -> None:
    with pytest.raises(BootstrapRefused):
        exchange(stage, booting, token="0" * 64)


def test_the_token_of_another_instance_is_refused(stage: Stage, booting: Instance) -> None:
    other = stage.step(stage.deploy())

    with pytest.raises(BootstrapRefused):
        exchange(stage, booting, token=worker_keys.bootstrap_token(other.attempts.get().pk))


def test_an_old_token_is_refused(stage: Stage, booting: Instance) -> None:
    stage.clock.forward(minutes=21)

    with pytest.raises(BootstrapRefused, match="expired"):
        exchange(stage, booting)


def test_a_short_agent_token_is_refused(stage: Stage, booting: Instance) -> None:
    with pytest.raises(BootstrapRefused, match="too short"):
        exchange(stage, booting, agent_token="short")


def test_a_machine_that_is_quicker_than_our_look_at_its_provider_asks_again_and_is_no_stranger(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    instance = stage.deploy()
    stage.cloud.fail_next("get", Unavailable("away"))
    stage.step(instance)
    assert (instance.status, instance.ip_address) == (Status.PROVISIONING, None)

    with pytest.raises(AddressNotConfirmed):
        exchange(stage, instance, address="10.0.0.1")
    assert not instance.heartbeat_refusals.exists()
    assert "ALARM" not in caplog.text

    stage.clock.forward(seconds=5)
    stage.step(instance)
    assert instance.status == Status.BOOTING
    assert exchange(stage, instance, address="10.0.0.1")


def test_a_right_token_from_elsewhere_gets_no_key_stays_unused_and_alarms_once(
    stage: Stage, booting: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        with pytest.raises(AddressNotConfirmed):
            exchange(stage, booting, address="203.0.113.9", agent_token="a-thiefs-agent-token-of-32-characters")
        stage.clock.forward(seconds=1)

    refusal = booting.heartbeat_refusals.get()
    assert (refusal.reason, refusal.address, refusal.times) == ("bootstrap", "203.0.113.9", 3)
    assert caplog.text.count("ALARM") == 1
    assert exchange(stage, booting)


def test_a_wrong_token_from_elsewhere_is_no_alarm(stage: Stage, booting: Instance) -> None:
    with pytest.raises(BootstrapRefused):
        exchange(stage, booting, token="0" * 64, address="203.0.113.9")

    assert not booting.heartbeat_refusals.exists()
