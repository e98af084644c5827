"""What a worker's machine is told at its first boot."""

from __future__ import annotations

import base64
import gzip
import json
import stat
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.agent import agent as agent_module
from fleet.agent import cloud_init
from fleet.agent.cloud_init import TooLarge, WorkerConfig, agent_config, engine_command, render
from fleet.providers.mock import boot

CONFIG = WorkerConfig(
    instance_id="5d9c3a34-8f0e-4c55-a5b4-0d2f5c8f8f5e",
    bootstrap_token="b" * 43,
    control_plane_url="https://control.example.org/",
    router_url="https://router.example.org",
    heartbeat_interval=5.0,
    poweroff_after=3600,
    model_id="meta-llama/Llama-3.1-8B-Instruct",
    port=8000,
    tensor_parallel_size=2,
    max_model_len=32768,
)


def test_it_is_cloud_config_in_yaml_that_is_json_too() -> None:
    text = render(CONFIG)

    header, _, document = text.partition("\n")
    assert header == "#cloud-config"
    assert yaml.safe_load(text) == json.loads(document)


def test_it_installs_the_very_agent_its_configuration_and_its_unit() -> None:
    files = written(render(CONFIG))

    packed = files[cloud_init.AGENT_PATH]
    assert gzip.decompress(base64.b64decode(packed["content"])) == Path(agent_module.__file__).read_bytes()
    assert json.loads(files[cloud_init.CONFIG_PATH]["content"]) == agent_config(CONFIG)
    unit = files[cloud_init.UNIT_PATH]["content"]
    assert f"{cloud_init.AGENT_PATH} --config {cloud_init.CONFIG_PATH}" in unit


def test_only_root_reads_the_configuration_which_holds_the_bootstrap_token_alone() -> None:
    text = render(CONFIG)

    assert written(text)[cloud_init.CONFIG_PATH]["permissions"] == "0600"
    assert text.count(CONFIG.bootstrap_token) == 1


def test_it_never_upgrades_packages_which_would_break_the_driver() -> None:
    assert document(render(CONFIG))["package_upgrade"] is False


def test_it_waits_for_the_gpu_mounts_scratch_and_then_starts_the_agent() -> None:
    commands = [" ".join(command) for command in document(render(CONFIG))["runcmd"]]

    assert "nvidia-smi" in commands[0]
    assert cloud_init.SCRATCH_PATH in commands[1]
    assert commands[-1] == "systemctl enable --now inventiv-agent.service"


@pytest.mark.parametrize(("provider", "url"), [("aws", "http://169.254.169.254"), ("", None)])
def test_the_agent_of_a_spot_machine_asks_its_providers_metadata_service(
    tmp_path: Path, provider: str, url: str | None
) -> None:
    config = json.loads(json.dumps(agent_config(replace(CONFIG, spot=provider))))

    notice = agent_module.build(config, state_dir=str(tmp_path)).notice

    assert (notice and notice.url) == url


def test_it_fits_into_what_aws_takes() -> None:
    longest = replace(
        CONFIG,
        model_id="m" * 255,
        control_plane_url="https://" + "c" * 200,
        router_url="https://" + "r" * 200,
        bootstrap_token="b" * 200,
    )

    assert len(render(longest).encode()) < cloud_init.LIMIT


def test_more_than_a_machine_takes_is_refused_and_not_sent() -> None:
    keys = tuple(f"ssh-rsa {'A' * 700} {number}" for number in range(12))

    with pytest.raises(TooLarge, match=r"has \d+ bytes, and a machine takes 16384"):
        render(replace(CONFIG, authorized_keys=keys))


def test_the_default_user_of_any_image_takes_the_operators_keys() -> None:
    keys = ("ssh-ed25519 AAAA ana", "ssh-ed25519 BBBB bob")

    assert document(render(replace(CONFIG, authorized_keys=keys)))["ssh_authorized_keys"] == list(keys)
    assert "ssh_authorized_keys" not in document(render(CONFIG))


def test_the_same_configuration_gives_the_same_bytes() -> None:
    assert render(CONFIG) == render(replace(CONFIG))
    with pytest.raises(FrozenInstanceError):
        CONFIG.port = 1  # type: ignore[misc]


def test_the_engine_is_vllm_on_all_gpus_with_its_key_from_the_environment() -> None:
    command = engine_command(CONFIG)

    assert command[:2] == ["docker", "run"]
    assert "vllm/vllm-openai:v0.33.0" in command
    assert " -e HF_TOKEN -e VLLM_API_KEY " in " ".join(command)
    assert " ".join(command).endswith(
        "--model meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 2 --max-model-len 32768 --shutdown-timeout 120"
    )


def test_without_a_context_length_the_engine_takes_the_models_own() -> None:
    assert "--max-model-len" not in engine_command(replace(CONFIG, max_model_len=None))


def test_the_container_listens_on_the_port_that_the_router_is_told() -> None:
    command = engine_command(replace(CONFIG, port=9000))

    assert command[command.index("-p") + 1] == "9000:8000"


def test_a_mock_machine_boots_from_the_same_text(tmp_path: Path) -> None:
    boot.write_files(render(CONFIG), tmp_path)

    config = tmp_path / cloud_init.CONFIG_PATH.lstrip("/")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert boot.unit_command(tmp_path) == [
        "/usr/bin/python3",
        cloud_init.AGENT_PATH,
        "--config",
        cloud_init.CONFIG_PATH,
    ]


def test_a_mock_machine_writes_no_file_outside_of_itself(tmp_path: Path) -> None:
    text = cloud_init.HEADER + json.dumps({"write_files": [{"path": "/../../escaped", "content": "x"}]})

    with pytest.raises(ValueError, match="leaves the machine"):
        boot.write_files(text, tmp_path)


def document(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


def written(text: str) -> dict[str, dict[str, str]]:
    return {entry["path"]: entry for entry in document(text)["write_files"]}
