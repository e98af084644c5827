"""What runs on the machines: an agent that registers once its system is up, and is heard from then on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from routing.discovery.records import Pulse
from tests.simulation.clock import Clock
from tests.simulation.cloud import Machine, SimulatedCloud

BOOT = timedelta(seconds=30)


@dataclass
class Machines:
    clock: Clock
    cloud: SimulatedCloud
    registered: set[str] = field(default_factory=set)  # ids of machines whose agent has its tokens
    last_words: dict[str, datetime] = field(default_factory=dict)  # of the dead and the silent

    def heard(self, instance_id: str) -> Pulse | None:
        """The pulse that the router would have written of the instance's worker."""
        pulses = [
            self._pulse(machine) for machine in self.cloud.machines.values() if machine.instance_id == instance_id
        ]
        return max((pulse for pulse in pulses if pulse), key=lambda pulse: pulse.last_heartbeat, default=None)

    def dies(self, machine: Machine) -> None:
        self.last_words[machine.id] = self.clock()
        self.cloud.die(machine)

    def speaks_again(self, machine: Machine) -> None:
        if machine.started_at is not None:
            del self.last_words[machine.id]

    def _pulse(self, machine: Machine) -> Pulse | None:
        if machine.id not in self.registered:
            return None
        at = self._last_heard(machine)
        return Pulse(machine.instance_id, last_heartbeat=at.timestamp(), ready=True, worker_load=0, current_load=0)

    def _last_heard(self, machine: Machine) -> datetime:
        ends = [machine.stopping_since, machine.gone_at, self.last_words.get(machine.id)]
        return min([self.clock(), *(end for end in ends if end is not None)])
