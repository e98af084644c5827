"""A machine of the mock cloud: processes on this one, which outlive whoever started them.

The main process leads a session of its own and is nobody's child. All processes of a machine carry its mark in their
environment, so that they are found without trusting a process id, which the kernel uses again.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from fleet.providers.base import Unavailable
from fleet.providers.mock.chaos import Chaos
from fleet.providers.mock.store import Books, Server

MARK = "INVENTIV_MOCK_MACHINE"
SIMULATED = 0  # instead of a process id, which is never 0: another program plays the machine
ENGINE_PORT = 8000  # only to see whether an address is free
_NETWORK = int(IPv4Address("127.77.0.0"))
_BOOT = Path(__file__).with_name("boot.py")
_PROJECT = Path(__file__).resolve().parents[3]


def directory(home: Path, server_id: str) -> Path:
    """Where the machine keeps its files: its root file system, and `console.log`."""
    return home / "machines" / server_id


def notice(home: Path, server_id: str) -> Path:
    """What the machine's metadata service tells of its end, if it is there (see `metadata`)."""
    return directory(home, server_id) / "notice.json"


# --- power ------------------------------------------------------------------------------------------------------


def start(books: Books, server: Server, *, home: Path, now: datetime) -> None:
    """Start the machine, in the transaction that notes it. Raises Unavailable if this computer can't.

    Its process waits for an order, which it gets when the transaction is committed, and ends if none comes: the
    books know of every machine that runs, whenever we are killed. One that is simulated is only noted.
    """
    chaos = Chaos(books)
    if chaos.simulates_machines():
        books.change(server, started_at=now, pid=SIMULATED, pid_started=SIMULATED, suspended=False)
        return
    process = subprocess.Popen(  # noqa: S603 - our own file, our own interpreter
        [sys.executable, "-I", "-S", str(_BOOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={MARK: server.id, "PATH": os.defpath, "PYTHONPATH": str(_PROJECT)},  # none of our secrets
        cwd=home,
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise AssertionError("pipes were asked for")
    with process.stdout as output:
        answer = output.readline()
    process.wait()  # it has forked; what waits now is nobody's child
    order = json.dumps(_order(server, chaos, home)).encode() + b"\n"
    pipe = process.stdin

    def give_order(committed: bool) -> None:
        try:
            with pipe:
                pipe.write(order if committed else b"")
        except BrokenPipeError:
            return  # somebody has destroyed it already

    books.when_closed.append(give_order)
    started = _start_time(int(answer)) if answer.strip().isdigit() else None
    if started is None:
        raise Unavailable("the mock machine's process can't be started")
    books.change(server, started_at=now, pid=int(answer), pid_started=started, suspended=False)


def _order(server: Server, chaos: Chaos, home: Path) -> dict[str, Any]:
    return {
        "directory": str(directory(home, server.id)),
        "address": server.address,
        "user_data": server.user_data,
        "boot_seconds": chaos.amount("boot_seconds"),
        "engine_arguments": [
            *("--load-seconds", str(chaos.amount("load_seconds"))),
            *("--ttft", str(chaos.amount("ttft_seconds"))),
            *("--tokens-per-second", str(chaos.amount("tokens_per_second"))),
        ],
    }


def is_on(server: Server) -> bool:
    """The truth, not a note: whether the main process that was started is there."""
    return server.pid is not None and (is_simulated(server) or _start_time(server.pid) == server.pid_started)


def is_simulated(server: Server) -> bool:
    return server.pid == SIMULATED


def is_frozen(server: Server) -> bool:
    stat = _stat(server.pid) if server.pid is not None and is_on(server) else None
    return stat is not None and stat.state == "T"


def send(server: Server, number: signal.Signals) -> int:
    """Send a signal to every process of the machine; returns how many there were."""
    pids = [] if is_simulated(server) else processes(server.id)
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
    return len(pids)


def processes(server_id: str) -> list[int]:
    """The ids of the machine's living processes, the main one first."""
    mark = f"{MARK}={server_id}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or not ours
        if mark in environment.split(b"\0"):
            found.append(int(entry.name))
    return sorted(found)


# --- addresses --------------------------------------------------------------------------------------------------


def free_address(taken: set[str]) -> str:
    """An address of 127.77.0.0/16 that no live server has. By chance, and tried out: other mock clouds on this
    computer, the tests' for one, draw from the same network."""
    for _ in range(1000):
        address = str(IPv4Address(_NETWORK + 1 + secrets.randbelow(2**16 - 2)))
        if address not in taken and _can_bind(address):
            return address
    raise Unavailable("no address of 127.77.0.0/16 is free: the mock cloud needs Linux, where all of 127/8 is local")


def _can_bind(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, ENGINE_PORT))
        except OSError:
            return False
    return True


# --- /proc ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stat:
    state: str  # R, S, T (stopped), Z (dead, not yet collected) ...
    started: int  # ticks since the computer's start


def _start_time(pid: int) -> int | None:
    stat = _stat(pid)
    return None if stat is None or stat.state in "ZX" else stat.started


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before may hold spaces
    return _Stat(state=fields[0], started=int(fields[19]))
