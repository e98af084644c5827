"""What a worker's machine is told at its first boot: cloud-init that installs the agent as a systemd service.

The text is a pure function of its input, byte for byte: an AWS create is idempotent only with equal parameters.
"""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

ENGINE_IMAGE = "vllm/vllm-openai:v0.33.0"
ENGINE_CONTAINER = "inventiv-engine"
ENGINE_PORT_IN_CONTAINER = 8000
# Seconds. The engine ends its requests, then Docker would kill it, then systemd would.
ENGINE_SHUTDOWN, DOCKER_STOP, SYSTEMD_STOP = 120, 150, 180

HEADER = "#cloud-config\n"
LIMIT = 16 * 1024  # bytes of user data that AWS takes
AGENT_PATH = "/opt/inventiv/agent.py"
CONFIG_PATH = "/etc/inventiv/agent.json"
UNIT_PATH = "/etc/systemd/system/inventiv-agent.service"
SCRATCH_PATH = "/opt/inventiv/mount-scratch.sh"
STATE_DIR = "/var/lib/inventiv"

_AGENT = Path(__file__).with_name("agent.py")

_UNIT = f"""\
[Unit]
Description=Inventiv's agent and the engine it runs
After=network-online.target docker.service
Wants=network-online.target
Requires=docker.service

[Service]
ExecStartPre=-/usr/bin/docker rm --force {ENGINE_CONTAINER}
ExecStart=/usr/bin/python3 {AGENT_PATH} --config {CONFIG_PATH}
Restart=always
RestartSec=5
KillMode=mixed
TimeoutStopSec={SYSTEMD_STOP}

[Install]
WantedBy=multi-user.target
"""

# Scratch is the one whole disk without partitions, file system or mount point; many types have none.
_MOUNT_SCRATCH = """\
#!/bin/sh
mkdir -p /data/hf
disk=$(lsblk --noheadings --nodeps --paths --output NAME,TYPE | awk '$2 == "disk" {print $1}' | while read -r name; do
    [ "$(lsblk --noheadings --output NAME,FSTYPE "$name" | awk 'NF > 1' | wc -l)" = 0 ] || continue
    [ "$(lsblk --noheadings "$name" | wc -l)" = 1 ] && echo "$name"
done | head -n 1)
[ -n "$disk" ] || exit 0
mkfs.ext4 -q "$disk" && mount "$disk" /data/hf
"""

# The driver may come up after cloud-init; without it the engine only fails and starts again.
_WAIT_FOR_GPU = "for i in $(seq 120); do nvidia-smi && break; sleep 5; done"


class TooLarge(ValueError):
    """The user data is more than a provider takes."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    instance_id: str
    bootstrap_token: str  # one-time, bound to the instance: the only secret in here
    control_plane_url: str
    router_url: str
    heartbeat_interval: float  # seconds
    poweroff_after: float  # seconds in which nothing was heard and nothing served
    model_id: str
    port: int  # of the engine, on the machine's address
    tensor_parallel_size: int
    max_model_len: int | None = None  # tokens; None: what the model's own configuration says
    authorized_keys: tuple[str, ...] = ()  # public SSH keys of operators, for the image's default user
    spot: str = ""  # of a spot machine, the provider's name: how the agent hears that it is taken back


def engine_command(config: WorkerConfig) -> list[str]:
    """The argv that runs vLLM in the foreground, for the agent to supervise. Its secrets come by the environment."""
    docker = ["docker", "run", "--rm", "--name", ENGINE_CONTAINER, "--gpus", "all", "--ipc=host"]
    docker += ["--stop-timeout", str(DOCKER_STOP), "-p", f"{config.port}:{ENGINE_PORT_IN_CONTAINER}"]
    docker += ["-v", "/data/hf:/root/.cache/huggingface", "-e", "HF_TOKEN", "-e", "VLLM_API_KEY", ENGINE_IMAGE]
    engine = ["--model", config.model_id, "--tensor-parallel-size", str(config.tensor_parallel_size)]
    if config.max_model_len is not None:
        engine += ["--max-model-len", str(config.max_model_len)]
    return [*docker, *engine, "--shutdown-timeout", str(ENGINE_SHUTDOWN)]


def agent_config(config: WorkerConfig) -> dict[str, object]:
    """The agent's configuration file, as an object."""
    return {
        "instance_id": config.instance_id,
        "bootstrap_token": config.bootstrap_token,
        "control_plane_url": config.control_plane_url.rstrip("/"),
        "router_url": config.router_url.rstrip("/"),
        "heartbeat_interval": config.heartbeat_interval,
        "poweroff_after": config.poweroff_after,
        "engine": {"model": config.model_id, "port": config.port, "command": engine_command(config)},
        "state_dir": STATE_DIR,
        "spot": config.spot,
    }


def render(config: WorkerConfig) -> str:
    """The machine's user data, at most `LIMIT` bytes: "#cloud-config" and a JSON object, which is YAML too.

    Raises TooLarge.
    """
    text = HEADER + json.dumps(_document(config), indent=1) + "\n"
    size = len(text.encode())
    if size > LIMIT:
        raise TooLarge(f"the user data has {size} bytes, and a machine takes {LIMIT}")
    return text


def _document(config: WorkerConfig) -> dict[str, object]:
    return {
        "package_update": False,
        "package_upgrade": False,  # it breaks the GPU's driver
        "write_files": [
            _file(AGENT_PATH, _AGENT.read_text(), mode="0755", packed=True),
            _file(CONFIG_PATH, json.dumps(agent_config(config), indent=1), mode="0600"),
            _file(SCRATCH_PATH, _MOUNT_SCRATCH, mode="0755"),
            _file(UNIT_PATH, _UNIT, mode="0644"),
        ],
        "runcmd": [
            ["sh", "-c", _WAIT_FOR_GPU],
            ["sh", SCRATCH_PATH],
            ["systemctl", "daemon-reload"],
            ["systemctl", "enable", "--now", "inventiv-agent.service"],
        ],
        **({"ssh_authorized_keys": list(config.authorized_keys)} if config.authorized_keys else {}),
    }


def _file(path: str, content: str, *, mode: str, packed: bool = False) -> dict[str, str]:
    if not packed:
        return {"path": path, "permissions": mode, "content": content}
    # mtime=0: else the text would change with the second.
    packed_content = base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()
    return {"path": path, "permissions": mode, "encoding": "gz+b64", "content": packed_content}
