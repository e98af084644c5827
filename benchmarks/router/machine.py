"""Where processes run, what they cost, and what machine this is. Linux alone can tell it so exactly."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil

_ALLOWED = sorted(os.sched_getaffinity(0))
LOAD_CPU = _ALLOWED[0]  # the load generator, the engines, Redis and we
ROUTER_CPU = _ALLOWED[-1]

_MIB = 1024 * 1024


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """What is started inside runs on this CPU alone, with all its threads and children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """What a process and its children have used so far, to the microsecond."""
    return sum(_clock(each) for each in family(pid))


def memory_mib(pid: int) -> float:
    """Resident memory of a process and its children."""
    found = 0.0
    for each in family(pid):
        with suppress(psutil.NoSuchProcess):
            found += psutil.Process(each).memory_info().rss / _MIB
    return found


def family(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def description() -> Mapping[str, str | int]:
    return {
        "processor": _processor(),
        "cpus": len(_ALLOWED),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _clock(pid: int) -> float:
    """Its CPU-time clock, numbered as clock_getcpuclockid(3) does; /proc has no more than hundredths of a second."""
    with suppress(OSError):
        return time.clock_gettime((~pid << 3) | 2)
    return 0.0  # it has just ended


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
