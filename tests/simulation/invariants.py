"""What must hold after every event, and what must be in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fleet.models import Attempt, Instance, Leak, Rental, Transition
from fleet.models.attempt import MAY_BILL
from fleet.providers.base import ServerSpec
from fleet.states import Status
from tests.simulation.cloud import Machine, SimulatedCloud
from tests.simulation.director import task_of_this_thread
from tests.simulation.discovery import SimulatedDiscovery

# How long the index may say otherwise than Postgres: the clock rebuilds it every 30 s, and may itself be late.
_INDEX_LAG = timedelta(seconds=90)


class Violation(AssertionError):
    """A law of money or of routing was broken."""


@dataclass
class Invariants:
    cloud: SimulatedCloud
    discovery: SimulatedDiscovery
    broken: list[str] = field(default_factory=list)
    over: set[str] = field(default_factory=set)  # instances that were TERMINATED at the last look
    statuses: dict[str, str] = field(default_factory=dict)  # of every instance, at the last look
    misrouted_since: dict[str, datetime] = field(default_factory=dict)

    # --- at the cloud's door ----------------------------------------------------------------------------------------

    def before_a_create(self, spec: ServerSpec) -> None:
        """The intent is committed before the provider is asked (law 1), and no other machine may be there already.

        Not so for one who was paused in between: whoever took over may have asked as well, got a clear refusal, and
        noted that nothing is left to settle. What the late one makes is never switched on, and swept."""
        others = [each.id for each in self.cloud.alive if each.instance_id == spec.instance_id and not each.came_late]
        late = _has_been_paused()
        if others and not late:
            self._break(f"a machine was asked for beside {', '.join(others)} for the same instance")
        known = Attempt.objects.filter(pk=spec.attempt_id).first()
        if known is None or (known.asked_at is None and not late):
            self._break(f"a machine was asked for before attempt {spec.attempt_id} said so")

    def after_a_start(self, started: Machine) -> None:
        """Its ids are committed before power-on, and no other machine of the instance runs."""
        if not Attempt.objects.filter(pk=started.spec.attempt_id, server_id=started.id).exists():
            self._break(f"{started.id} was started before its id was committed")
        others = [
            machine.id
            for machine in self.cloud.alive
            if machine.instance_id == started.instance_id
            and machine.started_at is not None
            and machine.stopping_since is None
            and machine is not started
        ]
        if others:
            self._break(f"{started.id} was started beside {', '.join(others)} for the same instance")

    def before_a_destruction(self, machine: Machine) -> None:
        """It is ours, and nobody is served by it: an end was asked for, or it was given up for a reason."""
        if not machine.is_ours:
            self._break(f"{machine.id} is somebody else's, and was destroyed")
        if machine.started_at is None or not self._serves(machine.instance_id):
            return
        if Instance.objects.filter(pk=machine.instance_id, status=Status.READY).exists():
            self._break(f"{machine.id} served, and was destroyed")

    # --- after every event ------------------------------------------------------------------------------------------

    def check(self, now: datetime) -> None:
        statuses = {str(pk): status for pk, status in Instance.objects.values_list("pk", "status")}
        self._given_up_for_a_reason(statuses)
        self._terminated_is_final_and_true(statuses)
        self._routable_is_ready(statuses, now)
        self.statuses = statuses
        if self.broken:
            raise Violation("; ".join(self.broken))

    def _given_up_for_a_reason(self, statuses: dict[str, str]) -> None:
        if "liveness" in self.discovery.director.paused:
            return  # between its last look and its move it may have slept through good news
        for each, status in statuses.items():
            if status == Status.FAILED and self.statuses.get(each) == Status.READY and self._serves(each):
                self._break(f"{each} served, was heard a moment ago, and was given up")

    def _terminated_is_final_and_true(self, statuses: dict[str, str]) -> None:
        over = {each for each, status in statuses.items() if status == Status.TERMINATED}
        for each in self.over - over:
            self._break(f"{each} was TERMINATED and is {statuses.get(each)}")
        for each in over - self.over:
            left = [machine.id for machine in self.cloud.alive if machine.instance_id == each and not machine.came_late]
            if left:
                self._break(f"{each} is TERMINATED while {', '.join(left)} exists")
        self.over = over

    def _routable_is_ready(self, statuses: dict[str, str], now: datetime) -> None:
        wrong = {each for each in self.discovery.routable if statuses.get(each) != Status.READY}
        self.misrouted_since = {each: self.misrouted_since.get(each, now) for each in wrong}
        for each, since in self.misrouted_since.items():
            if now - since > _INDEX_LAG:
                self._break(f"{each} is {statuses.get(each)} and has been routable since {since:%H:%M:%S}")

    # --- in the end -------------------------------------------------------------------------------------------------

    def unfinished(self) -> list[str]:
        """With the faults gone: what is not yet as it should be."""
        wanted = Counter(str(pk) for pk in Instance.objects.filter(status=Status.READY).values_list("pk", flat=True))
        alive = Counter(machine.instance_id for machine in self.cloud.alive)
        live = Instance.objects.exclude(status__in=[Status.READY, Status.TERMINATED]).values_list("status", flat=True)
        unmet = Instance.objects.filter(status=Status.READY, termination_requested_at__isnull=False)
        disks = {machine.disk_id for machine in self.cloud.disks}
        ledger = set(Rental.objects.filter(until=None).values_list("resource_id", flat=True))
        left = []
        if alive != wanted:
            left.append(
                f"machines {dict(alive - wanted)} without an instance, instances {dict(wanted - alive)} without"
            )
        if live:
            left.append(f"instances still {sorted(live)}")
        if unmet:
            left.append("an end was asked for and not begun")
        if len(disks) != len(self.cloud.alive):
            left.append(f"disks {sorted(disks)} for {len(self.cloud.alive)} machines")
        if ledger != disks | {machine.id for machine in self.cloud.alive}:
            left.append(f"the ledger says that {sorted(ledger)} bill")
        if self.discovery.routable != set(wanted):
            left.append(f"routable are {self.discovery.routable}, ready are {set(wanted)}")
        if Leak.objects.filter(ended_at=None).exists():
            left.append("leaks are open")
        if Attempt.objects.filter(outcome__in=sorted(MAY_BILL)).exclude(instance__status=Status.READY).exists():
            left.append("attempts are open that belong to no serving instance")
        return left

    def histories(self) -> None:
        """Every instance began as PROVISIONING, and each of its moves begins where the last one ended."""
        last: dict[str, str] = {}
        for instance, old, new in Transition.objects.order_by("id").values_list("instance", "from_status", "to_status"):
            if last.get(str(instance), "") != old:
                self._break(f"{instance} moved from {old}, where it was not")
            last[str(instance)] = new
        if self.broken:
            raise Violation("; ".join(self.broken))

    def ledger(self) -> None:
        """Whatever the cloud bills, the ledger has: from its creation, and never for less than it was there."""
        rows = {rental.resource_id: rental for rental in Rental.objects.all()}
        for machine in self.cloud.machines.values():
            if machine.is_ours:
                self._is_billed(rows.get(machine.id), machine.id, machine.created_at, machine.gone_at)
                self._is_billed(rows.get(machine.disk_id), machine.disk_id, machine.created_at, machine.disk_gone_at)
        if self.broken:
            raise Violation("; ".join(self.broken))

    def _is_billed(self, rental: Rental | None, what: str, since: datetime, until: datetime | None) -> None:
        if rental is None:
            self._break(f"{what} was billed, and the ledger does not know it")
        elif rental.since != since:
            self._break(f"{what} is billed since {since}, by the ledger since {rental.since}")
        elif until is not None and (rental.until is None or rental.until < until):
            self._break(f"{what} was billed until {until}, by the ledger until {rental.until}")

    def _serves(self, instance_id: str) -> bool:
        """Whether its machine runs, and is heard."""
        runs = any(machine.instance_id == instance_id and machine.started_at for machine in self.cloud.alive)
        return runs and self.discovery.is_fresh(instance_id)

    def _break(self, what: str) -> None:
        if what not in self.broken:
            self.broken.append(what)


def _has_been_paused() -> bool:
    task = task_of_this_thread()
    return task is not None and task.paused
