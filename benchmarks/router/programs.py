"""The two programs in C, compiled where they are needed: the mock engine `upstream` and the load generator `load`."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from benchmarks.router import machine

PORTS = 8
_SOURCES = Path(__file__).with_name("native")
_PATIENCE = 60.0  # seconds beyond what a load is to last


class Failed(Exception):
    """A program did not do what it was started for; the message has its own words."""


@dataclass(frozen=True, slots=True)
class Programs:
    upstream: Path
    load: Path


@dataclass(frozen=True, slots=True)
class Distribution:
    """Microseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    most: float


@dataclass(frozen=True, slots=True)
class Requests:
    """What a load of requests met between the two instants."""

    seconds: float
    errors: int  # answers other than 200, cut ones too
    reconnects: int
    latency: Distribution


@dataclass(frozen=True, slots=True)
class Streams:
    """What a load of streams met; the distributions are of the time while all of them ran."""

    seconds: float  # that this lasted
    together: bool  # whether there was such a time; if not, the distributions are of the whole
    errors: int  # streams that did not come to their end
    events: int
    lateness: Distribution  # from the engine to the client
    lateness_first_third: Distribution
    lateness_last_third: Distribution
    gap: Distribution


def compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def compile_all(directory: Path) -> Programs:
    """Raises Failed."""
    command = compiler()
    if command is None:
        raise Failed("a C compiler (cc) is needed: on Debian and Ubuntu, apt install gcc libc6-dev")
    for name in ("upstream", "load"):
        arguments = [command, "-O2", "-o", str(directory / name), str(_SOURCES / f"{name}.c")]
        compiled = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 - our own sources
        if compiled.returncode:
            raise Failed(compiled.stderr)
    return Programs(upstream=directory / "upstream", load=directory / "load")


@contextmanager
def engines(programs: Programs, *, events_per_second: float) -> Iterator[Sequence[int]]:
    """The mock engine while the block runs; its ports."""
    with machine.pinned(machine.LOAD_CPU):
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [str(programs.upstream), str(PORTS), str(events_per_second)], stdout=subprocess.PIPE, text=True
        )
    try:
        assert process.stdout is not None  # noqa: S101 - for the type checker
        yield [int(port) for port in process.stdout.readline().split()[1:]]
    finally:
        process.kill()
        process.communicate()


At = Callable[[], None]  # called at an instant of the load


def nothing() -> None:
    pass


def load_requests(
    programs: Programs,
    port: int,
    request: bytes,
    *,
    connections: int,
    warm_up: float,
    seconds: float,
    begin: At = nothing,
    end: At = nothing,
) -> Requests:
    """Raises Failed."""
    arguments = ["requests", port, connections, warm_up, seconds]
    return Requests(**_load(programs, arguments, request, begin=begin, end=end, within=warm_up + seconds + _PATIENCE))


def load_streams(
    programs: Programs, port: int, request: bytes, *, streams: int, ramp: float, within: float, end: At = nothing
) -> Streams:
    """Opens the streams over `ramp` seconds, and gives up on those that are not over `within` seconds. `end` is called
    when the first is over. Raises Failed."""
    arguments = ["streams", port, streams, ramp, within]
    return Streams(**_load(programs, arguments, request, begin=nothing, end=end, within=within + _PATIENCE))


def _load(
    programs: Programs, arguments: Sequence[object], request: bytes, *, begin: At, end: At, within: float
) -> dict[str, Any]:
    with machine.pinned(machine.LOAD_CPU), TemporaryFile() as told:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [str(programs.load), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told
        )
        watchdog = threading.Timer(within, process.kill)
        watchdog.start()
        try:
            last = _follow(process, request, {b"begin\n": begin, b"end\n": end})
            if process.wait():
                told.seek(0)
                raise Failed(f"the load on port {arguments[1]} broke off: {told.read().decode().strip()}")
        finally:
            watchdog.cancel()
            process.kill()
            process.wait()
    return {name: Distribution(**each) if isinstance(each, dict) else each for name, each in json.loads(last).items()}


def _follow(process: subprocess.Popen[bytes], request: bytes, instants: Mapping[bytes, At]) -> bytes:
    """Gives it the request and calls what is due at its instants; returns its last line."""
    assert process.stdin is not None  # noqa: S101 - for the type checker
    assert process.stdout is not None  # noqa: S101 - for the type checker
    process.stdin.write(request)
    process.stdin.close()
    line = b""
    with process.stdout:
        for line in process.stdout:
            instants.get(line, nothing)()
    return line
