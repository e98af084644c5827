"""The main process of a mock machine: it becomes nobody's child, boots from its user data, and turns into the agent.

Run as a file by `machine.start`, with nothing but the standard library. Protocol: it writes its process id to stdout,
then reads one line of JSON, the order, from stdin; the end of stdin without an order ends it.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    order = _wait_for_order()
    if order is None:
        return
    root = Path(order["directory"])
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    _speak_to(root / "console.log")
    try:
        write_files(order["user_data"], root)
        time.sleep(order["boot_seconds"])
        run_agent(order, root)
    except Exception:
        traceback.print_exc()  # on the console, as a machine whose cloud-init failed: it stays up, and bills
    while True:
        signal.pause()


def _wait_for_order() -> dict[str, Any] | None:
    try:
        os.write(1, b"%d\n" % os.getpid())
    except BrokenPipeError:
        return None  # whoever started us is gone
    line = sys.stdin.readline()
    return json.loads(line) if line else None


def _speak_to(log: Path) -> None:
    console = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((null, 0), (console, 1), (console, 2)):
        os.dup2(old, new)
    os.close(console)
    os.close(null)
    print("power on", flush=True)


def write_files(user_data: str, root: Path) -> None:
    """Do what cloud-init's write_files says, below `root` instead of /."""
    for entry in parse(user_data).get("write_files", []):
        content = entry["content"].encode()
        if entry.get("encoding") == "gz+b64":
            content = gzip.decompress(base64.b64decode(content))
        path = below(root, entry["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(int(entry.get("permissions", "0644"), 8))


def parse(user_data: str) -> dict[str, Any]:
    header, _, document = user_data.partition("\n")
    if header != "#cloud-config" or not document.strip():
        return {}
    parsed: dict[str, Any] = json.loads(document)
    return parsed


def below(root: Path, path: str) -> Path:
    inside = (root / path.lstrip("/")).resolve()
    if not inside.is_relative_to(root.resolve()):
        raise ValueError(f"{path} leaves the machine")
    return inside


def run_agent(order: dict[str, Any], root: Path) -> None:
    """Turn into the agent, as the systemd unit starts it. Returns if there is no unit."""
    command = unit_command(root)
    if command is None:
        return
    config_path = below(root, command[command.index("--config") + 1])
    config = json.loads(config_path.read_text())
    environment = {
        **os.environ,
        "INVENTIV_ENGINE_URL": f"http://{order['address']}:{config['engine']['port']}",
        "INVENTIV_SOURCE_ADDRESS": order["address"],  # all mock machines share a computer, whose own is another
        "INVENTIV_ENGINE_COMMAND": json.dumps(engine_command(order, config["engine"])),
        "INVENTIV_POWEROFF_COMMAND": json.dumps(["/bin/sh", "-c", f"kill -KILL -{os.getpid()}"]),
    }
    if config.get("spot"):
        environment["INVENTIV_METADATA_URL"] = serve_metadata(order, root)
    script = str(below(root, command[1]))
    state_dir = str(below(root, config["state_dir"]))
    arguments = [sys.executable, "-I", "-S", script, "--config", str(config_path), "--state-dir", state_dir]
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - no shell is wanted


def serve_metadata(order: dict[str, Any], root: Path) -> str:
    """Start the machine's metadata service; returns its URL."""
    port = 8169
    service = [sys.executable, "-I", "-S", str(Path(__file__).with_name("metadata.py"))]
    service += ["--host", order["address"], "--port", str(port), "--notice", str(root / "notice.json")]
    subprocess.Popen(service)  # noqa: S603 - our own file, our own interpreter
    return f"http://{order['address']}:{port}"


def unit_command(root: Path) -> list[str] | None:
    """ExecStart of the first systemd unit: [interpreter, script, arguments ...]."""
    for unit in sorted((root / "etc/systemd/system").glob("*.service")):
        for line in unit.read_text().splitlines():
            if line.startswith("ExecStart="):
                return line.removeprefix("ExecStart=").split()
    return None


def engine_command(order: dict[str, Any], engine: dict[str, Any]) -> list[str]:
    """The simulated engine, with what the real one's command says of the model. It ends with this process."""
    real: list[str] = engine["command"]
    length = real[real.index("--max-model-len") :][:2] if "--max-model-len" in real else []
    return [
        *(sys.executable, "-P", "-m", "fleet.providers.mock.engine"),
        *("--model", engine["model"], "--host", order["address"], "--port", str(engine["port"])),
        *length,
        *order["engine_arguments"],
        *("--parent", str(os.getpid())),
    ]


if __name__ == "__main__":
    main()
