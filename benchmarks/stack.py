"""How long `make run` takes to a streamed answer, and what the stack weighs at rest.

    python -m benchmarks.stack

Starts a stack of its own in a temporary home, on free ports, and ends it. What a fresh clone adds is the virtual
environment: `time make .venv/.base` on a copy without one.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import psutil

from tests.acceptance.running_stack import RunningStack

_REST_SECONDS = 20  # after the last request, until what was started has settled
_MIB = 1024 * 1024


def main() -> None:
    directory = Path(tempfile.mkdtemp(prefix="inv-bench-"))
    stack = RunningStack(directory / "home", {})
    try:
        began = time.monotonic()
        stack.start(within=300)
        print(f"`manage.py run` in an empty home: streamed answer after {time.monotonic() - began:.1f} s")
        time.sleep(_REST_SECONDS)
        _weigh(stack)
    finally:
        stack.destroy(logs=directory / "log")
        shutil.rmtree(directory)


def _weigh(stack: RunningStack) -> None:
    rows = [(_name(process), process.memory_full_info().pss / _MIB) for process in stack.processes()]
    for name, mebibytes in sorted(rows, key=lambda row: -row[1]):
        print(f"{mebibytes:8.1f} MiB  {name}")
    print(f"{sum(mebibytes for _, mebibytes in rows):8.1f} MiB  in all, {len(rows)} processes (PSS)")


def _name(process: psutil.Process) -> str:
    return " ".join(process.cmdline())[:100] or process.name()


if __name__ == "__main__":
    main()
