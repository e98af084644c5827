"""From the order to the confirmed end, and what it cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet import worker_keys
from fleet.agent import cloud_init
from fleet.lifecycle import registration
from fleet.lifecycle.registration import AddressNotConfirmed
from fleet.states import Status
from tests.fleet.end_to_end.bills import assert_the_ledger_is_the_bill
from tests.fleet.end_to_end.clouds import Aws
from tests.fleet.end_to_end.stage import WiredStage
from tests.fleet.stage import AGENT_TOKEN


def test_an_instance_is_placed_serves_and_ends_and_nothing_is_left(stage: WiredStage) -> None:
    instance = stage.order()

    stage.until(instance, Status.BOOTING)
    (server_id,) = stage.billed("server")
    assert instance.provider_instance_id == server_id
    assert instance.ip_address == stage.cloud.address(server_id)
    assert {"volume", "ip"} == {line.kind for line in stage.cloud.bill() if line.id != server_id}
    stage.serve(instance)
    stage.end(instance)

    assert stage.moves(instance) == ["PROVISIONING", "BOOTING", "READY", "DRAINING", "TERMINATED"]
    assert stage.billed() == []


def test_a_machine_is_told_its_bootstrap_token_and_no_other_secret(stage: WiredStage, settings: Any) -> None:
    settings.HF_TOKEN = "hf_canary"
    instance = stage.until(stage.order(), Status.BOOTING)
    attempt = instance.attempts.get()

    told = stage.cloud.user_data(attempt.server_id)

    config = agent_config(told)
    assert config["bootstrap_token"] == worker_keys.bootstrap_token(attempt.pk)
    assert config["instance_id"] == str(instance.pk)
    assert instance.api_key
    known = [
        worker_keys.open_engine_key(instance.api_key),
        settings.HF_TOKEN,
        settings.SECRET_KEY,
        *(value for value in stage.cloud.options().values() if isinstance(value, str) and value),
    ]
    assert not [secret for secret in known if secret in told or secret in json.dumps(config)]


def test_who_calls_from_elsewhere_gets_no_key(stage: WiredStage) -> None:
    instance = stage.until(stage.order(), Status.BOOTING)

    with pytest.raises(AddressNotConfirmed):
        registration.exchange(
            instance_id=instance.pk,
            bootstrap_token=worker_keys.bootstrap_token(instance.attempts.get().pk),
            agent_token=AGENT_TOKEN,
            address="203.0.113.99",
            now=stage.world.now(),
            world=stage.world,
        )

    assert stage.register(instance)  # from where the cloud says that it is


def test_the_ledger_is_the_clouds_bill_line_by_line(stage: WiredStage) -> None:
    instance = stage.serve(stage.order())
    stage.let_pass(600, every=20)
    stage.end(instance)

    assert_the_ledger_is_the_bill(stage)
    assert {line.kind for line in stage.ledger()} == {"server", "volume", "ip"}


def test_an_end_before_the_machine_runs_is_in_the_ledger_too(stage: WiredStage) -> None:
    instance = stage.order()
    stage.let_pass(1)

    stage.end(instance)

    assert stage.billed() == []
    assert_the_ledger_is_the_bill(stage)


@pytest.mark.parametrize("cloud", ["aws"], indirect=True)
def test_an_address_that_another_machine_had_before_is_billed_for_both(stage: WiredStage) -> None:
    """AWS gives an address to the next one as soon as a machine has gone."""
    assert isinstance(stage.cloud, Aws)
    stage.cloud.give_everybody("54.0.0.1")

    for _ in range(2):
        stage.end(stage.serve(stage.order()))

    assert len([line for line in stage.ledger() if line.kind == "ip"]) == 2
    assert_the_ledger_is_the_bill(stage)


def agent_config(user_data: str) -> dict[str, Any]:
    """What cloud-init writes for the agent."""
    files = json.loads(user_data.removeprefix(cloud_init.HEADER))["write_files"]
    (content,) = [file["content"] for file in files if file["path"] == cloud_init.CONFIG_PATH]
    config: dict[str, Any] = json.loads(content)
    return config
