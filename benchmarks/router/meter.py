"""What a router uses between two instants of a load."""

from __future__ import annotations

from benchmarks.router import machine
from benchmarks.router.routers import Running


class Meter:
    """`router` and `redis`: seconds of CPU from `begin` to `end`. `memory_mib`: the router's, when it was weighed."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.router = self.redis = self.memory_mib = 0.0

    def begin(self) -> None:
        self.router -= _cpu(self._running.pid)
        self.redis -= _cpu(self._running.redis_pid)

    def end(self) -> None:
        self.router += _cpu(self._running.pid)
        self.redis += _cpu(self._running.redis_pid)

    def weigh(self) -> None:
        if self._running.pid:
            self.memory_mib = machine.memory_mib(self._running.pid)


def _cpu(pid: int) -> float:
    return machine.cpu_seconds(pid) if pid else 0.0
