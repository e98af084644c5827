"""One schedule: what happens when, from the first order to the calm after the last fault, and whether all held."""

from __future__ import annotations

import heapq
import random
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

import redis
from django.db import DatabaseError, connection

from fleet import clocks, commands, tasks, worker_keys
from fleet.commands import Actor as Person
from fleet.commands import DeploymentOrder
from fleet.lifecycle import due, index, leaks, liveness, registration, sweep
from fleet.lifecycle.advance import advance
from fleet.lifecycle.registration import AddressNotConfirmed, BootstrapRefused
from fleet.lifecycle.world import World
from fleet.models import Instance
from fleet.providers.base import ProviderError
from fleet.states import Status
from tests.simulation import database, ids
from tests.simulation.actors import Actor, Job, Task, Troupe
from tests.simulation.broker import SimulatedBroker
from tests.simulation.clock import START, Clock
from tests.simulation.cloud import Machine, SimulatedCloud
from tests.simulation.director import CALM, Act, Chances, Cue, Director, Named
from tests.simulation.discovery import SimulatedDiscovery
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.machines import BOOT, Machines

TROUPE, _BROKER = Troupe(), SimulatedBroker()
_AT_WORK = 8  # actors at most, those that are paused too
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TICK, _LISTEN, _LONGEST_TICK = timedelta(seconds=2), timedelta(seconds=10), timedelta(minutes=20)
_NEVER = datetime.max.replace(tzinfo=UTC)
_WITH_WORKER = {Status.BOOTING, Status.READY, Status.DRAINING}
_OVERDUE = timedelta(seconds=30)
_REBUILD_EVERY = timedelta(seconds=30)
_UNTIL_ALL_IS_SEEN = timedelta(minutes=5)  # a sweep after the longest lag of a listing
_CALM_LASTS = timedelta(hours=6)  # what is not as it should be after that never will be

# What a process may meet and survive: its database, its Redis, its provider.
_FAULTS = (DatabaseError, redis.RedisError, ProviderError, BootstrapRefused, AddressNotConfirmed)


@dataclass
class Schedule:
    seed: int
    chances: Chances = CALM
    script: Mapping[Cue | Named, Act] = field(default_factory=dict)
    remembers_attempts: bool = False
    beats: int = 1  # clocks that ring, each on its own
    patient: bool = False  # whether it waits for every sweep, those too that can't find anything new

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.rng = random.Random(self.seed)
        self.director = Director(self.rng, self.chances, self.script)
        self.cloud = SimulatedCloud(self.clock, self.director, self.remembers_attempts)
        self.machines = Machines(self.clock, self.cloud)
        self.discovery = SimulatedDiscovery(self.clock, self.director, self.machines.heard)
        self.world = World(
            now=self.clock,
            provider=lambda name, account: self.cloud,
            publisher=self.discovery,  # type: ignore[arg-type]
            chance=self.rng.random,
        )
        self.invariants = Invariants(self.cloud, self.discovery)
        self.cloud.on_create = self.invariants.before_a_create
        self.cloud.on_start = self._machine_was_started
        self.cloud.on_destroy = self.invariants.before_a_destruction
        self._events: list[tuple[datetime, int, Callable[[], object]]] = []
        self._order = count()
        self._paused: set[int] = set()
        self._ticking: set[str] = set()
        self._tick_at: dict[int, datetime] = {}  # by beat
        self._seen: object = None
        self._changed_at = self._rebuilt_at = self._listened_at = START

    # --- what a test plans ------------------------------------------------------------------------------------------

    def at(self, seconds: float, happens: Callable[[], object]) -> None:
        self._push(START + timedelta(seconds=seconds), happens)

    def deploy(self, *, replicas: int = 1) -> None:
        self._act("api", "deploy", lambda: self._deploy(replicas))

    def terminate_all(self, *, drain: bool = False) -> None:
        for pk in list(Instance.objects.live().order_by("created_at", "pk").values_list("pk", flat=True)):
            self._act("api", f"end {pk}", lambda pk=pk: self._terminate(pk, drain))  # type: ignore[misc]

    def a_machine_dies(self) -> None:
        if machine := self._some_machine():
            self.director.tell(f"{self.clock.told}  {machine.id} dies")
            self.machines.dies(machine)

    def a_machine_falls_silent(self) -> None:
        """For five minutes nobody hears it; it runs, and serves."""
        if machine := self._some_machine():
            self.director.tell(f"{self.clock.told}  {machine.id} falls silent")
            self.machines.last_words[machine.id] = self.clock()
            self._push(self.clock() + timedelta(minutes=5), lambda: self.machines.speaks_again(machine))

    def flush_redis(self) -> None:
        self.director.tell(f"{self.clock.told}  redis is flushed")
        self.discovery.flush()

    def somebody_rents_in_our_name(self) -> Machine:
        machine = self.cloud.forsake("eu-1", now=self.clock())
        self.director.tell(f"{self.clock.told}  {machine.id} appears, and no row knows it")
        return machine

    def somebody_else_rents(self) -> Machine:
        return self.cloud.forsake("eu-1", now=self.clock(), owner="another")

    def cloud_refuses(self, error: ProviderError, *, lasts: timedelta) -> None:
        self.director.tell(f"{self.clock.told}  the cloud answers {error} for {lasts}")
        self.cloud.refuses_everything = error
        self._push(self.clock() + lasts, self._cloud_answers)

    def _cloud_answers(self) -> None:
        self.cloud.refuses_everything = None

    def _some_machine(self) -> Machine | None:
        running = [machine for machine in self.cloud.alive if machine.started_at and not machine.stopping_since]
        return self.rng.choice(running) if running else None

    # --- the run ----------------------------------------------------------------------------------------------------

    def run(self, *, faults_end: float) -> Schedule:
        """Play what was planned; `faults_end` seconds after the start the faults end, and all must come to rest.

        Raises Violation, with the story so far as its note.
        """
        try:
            self.play(faults_end)
            self.director.chances, self.director.script = CALM, {}
            self.cloud.refuses_everything = self.cloud.stuck_until = None
            self.cloud.sold_out.clear()
            self.director.tell("--- the faults end ---")
            self._come_to_rest()
            self.invariants.histories()
            self.invariants.ledger()
        except Violation as violation:
            violation.add_note(self.story())
            raise
        finally:
            TROUPE.send_home()
        return self

    def play(self, seconds: float) -> None:
        """From the start up to then."""
        database.clear()
        ids.begin(self.seed)
        for beat in range(self.beats):
            self._ring(beat, START + beat * timedelta(seconds=1.3))
        self.play_on(seconds)

    def play_on(self, until: float) -> None:
        """Up to so many seconds after the start."""
        self._play(until=START + timedelta(seconds=until))

    def story(self) -> str:
        """Every event, with the ids as short names in the order in which they come up: the same for the same seed."""
        names: dict[str, str] = {}
        text = "\n".join([f"seed {self.seed}", *self.director.told])
        return _ID.sub(lambda found: names.setdefault(found.group(), f"<{len(names) + 1}>"), text)

    def _play(self, *, until: datetime) -> None:
        while self._events and self._events[0][0] <= until:
            self._next()
        self.clock.at = max(self.clock.at, until)

    def _come_to_rest(self) -> None:
        """Until everything is as it should be and nobody is paused. Raises Violation if that takes too long."""
        limit = self.clock() + _CALM_LASTS
        while self._paused or self.invariants.unfinished():
            if self.clock() > limit:
                raise Violation(f"not at rest {_CALM_LASTS} after the last fault: {self.invariants.unfinished()}")
            self._next()

    def _next(self) -> None:
        at, _, happens = heapq.heappop(self._events)
        self.clock.at = max(self.clock.at, at)
        self.cloud.settle()
        happens()
        self.invariants.check(self.clock())
        self._notice_changes()

    def _push(self, at: datetime, happens: Callable[[], object]) -> None:
        heapq.heappush(self._events, (at, next(self._order), happens))

    # --- actors -----------------------------------------------------------------------------------------------------

    def _act(self, kind: str, name: str, job: Job) -> None:
        """Let somebody do it, now, or as soon as one of them has time."""
        actor = TROUPE.free(most=_AT_WORK)
        if actor is None:
            self._push(self.clock() + timedelta(seconds=1), lambda: self._act(kind, name, job))
            return
        self._go_on(actor, lambda: actor.begin(Task(kind, name, self._watched(job))), kind, name)

    def _go_on(self, actor: Actor, go: Callable[[], None], kind: str, name: str) -> None:
        go()
        if actor.task is not None:
            assert self.director.pause_until is not None
            self._paused.add(actor.number)
            wake = lambda: self._go_on(actor, actor.go_on, kind, name)  # noqa: E731
            self._push(self.clock() + self.director.pause_until, wake)
            return
        self._paused.discard(actor.number)
        self._ticking.discard(name)
        self._judge(name, actor.error)

    def _watched(self, job: Job) -> Job:
        def watched() -> None:
            _BROKER.set_current()
            _BROKER.plug(self.director, self._deliver)
            with database.watched(self.director):
                job()

        return watched

    def _judge(self, name: str, error: BaseException | None) -> None:
        if error is None:
            return
        self.director.tell(f"{name}: {type(error).__name__}: {error}")
        if not isinstance(error, _FAULTS):
            raise error

    # --- what the actors do -----------------------------------------------------------------------------------------

    def _deploy(self, replicas: int) -> None:
        order = DeploymentOrder("acme/small", replicas=replicas)
        request = commands.request_deployment(order, actor=Person("olga"), now=self.clock())
        names = [str(pk) for pk in request.deployments.order_by("pk").values_list("instance_id", flat=True)]
        self.director.tell(f"{self.clock.told}  olga deploys {', '.join(names)}")

    def _terminate(self, pk: uuid.UUID, drain: bool) -> None:
        self.director.tell(f"{self.clock.told}  olga ends {pk}")
        commands.request_termination(pk, actor=Person("olga"), reason="done", now=self.clock(), drain=drain)

    def _deliver(self, command: str, target: str, wait: timedelta) -> None:
        kind = command.partition(":")[2].lower()
        self._push(self.clock() + wait, lambda: self._act(kind, f"{kind} {target}", self._job(kind, target)))

    def _job(self, kind: str, target: str) -> Job:
        step = {"reconcile": sweep.sweep_if_due, "collect": leaks.collect}.get(kind, advance)
        return lambda: step(uuid.UUID(target), self.world)

    def _machine_was_started(self, machine: Machine) -> None:
        self.invariants.after_a_start(machine)
        self._push(self.clock() + BOOT, lambda: self._register(machine))

    def _register(self, machine: Machine) -> None:
        """The agent asks until it is answered; a machine that is being destroyed asks no more."""
        if machine.stopping_since is not None or machine.started_at is None:
            return
        self._act("bootstrap", f"agent of {machine.id}", lambda: self._exchange(machine))
        if machine.id not in self.machines.registered:
            self._push(self.clock() + timedelta(seconds=15), lambda: self._register(machine))

    def _exchange(self, machine: Machine) -> None:
        registration.exchange(
            instance_id=uuid.UUID(machine.instance_id),
            bootstrap_token=worker_keys.bootstrap_token(uuid.UUID(machine.spec.attempt_id)),
            agent_token=f"the agent's own token, of machine {machine.id}",
            address=machine.address,
            now=self.clock(),
            world=self.world,
        )
        self.machines.registered.add(machine.id)

    # --- the clocks -------------------------------------------------------------------------------------------------

    def _tick(self, beat: int, at: datetime) -> None:
        if self._tick_at[beat] != at:
            return  # it was put forward
        for kind, job in self._clocks_with_work():
            name = f"clock {kind} of beat {beat}"
            if name not in self._ticking:  # the last one may be paused, as a beat job may
                self._ticking.add(name)
                self._act(kind, name, self._rung(kind, job))
        self._ring(beat, self._next_tick())

    def _ring(self, beat: int, at: datetime) -> None:
        self._tick_at[beat] = at
        self._push(at, lambda: self._tick(beat, at))

    def _clocks_with_work(self) -> Iterator[tuple[str, Job]]:
        """Beat would ring all of them. One that could not find anything is left out."""
        now, due_at = self.clock(), _due_at()
        if due_at.instances <= now:
            yield "wake", self._wake
        if min(due_at.leaks, due_at.sweeps) <= now or not due_at.any_sweep:
            yield "sweeps", self._wake_sweeps
        if now >= self._listened_at + _LISTEN and _WITH_WORKER & set(self.invariants.statuses.values()):
            self._listened_at = now
            yield "liveness", lambda: liveness.read_heartbeats(self.world)
        if self.discovery.built_at is None or now >= self._rebuilt_at + _REBUILD_EVERY:
            yield "index", self._tend_index

    def _rung(self, kind: str, job: Job) -> Job:
        """One beat needs no lock against another."""

        def rung() -> None:
            with clocks.tick(kind, period_seconds=2) as mine:
                if mine:
                    job()

        return rung if self.beats > 1 else job

    def _wake(self) -> None:
        instances = due.instances(self.clock())
        tasks.wake(tasks.TERMINATE, instances.being_destroyed)
        tasks.wake(tasks.PROVISION, instances.rising)

    def _wake_sweeps(self) -> None:
        tasks.wake(tasks.COLLECT, due.leaks(self.clock()))
        tasks.wake(tasks.RECONCILE, due.sweeps(self.clock()))

    def _tend_index(self) -> None:
        if not index.mend(self.world) and self.clock() >= self._rebuilt_at + _REBUILD_EVERY:
            self._rebuilt_at = self.clock()
            index.rebuild(self.world)

    def _next_tick(self) -> datetime:
        """Beat rings every two seconds. Where it would find nothing new, the simulation skips it."""
        soon, late = self.clock() + _TICK, self.clock() + _LONGEST_TICK
        if self._somebody_to_judge():
            late = self.clock() + _LISTEN
        due_at = _due_at()
        earliest = min(due_at.instances, due_at.leaks)
        if self.patient or self.clock() < self._changed_at + _UNTIL_ALL_IS_SEEN:
            earliest = min(earliest, due_at.sweeps)
        if earliest < self.clock() - _OVERDUE:
            # Whoever should see to it is paused, or the cloud refuses: nothing new is to be expected soon.
            soon = self.clock() + (self.clock() - earliest) / 4
        return min(late, max(soon, earliest))

    def _notice_changes(self) -> None:
        """What has changed is to be looked at soon, even where the clocks had nothing more to find."""
        seen = (sorted(self.invariants.statuses.items()), self.cloud.changes, self.discovery.built_at)
        if seen == self._seen:
            return
        self._seen, self._changed_at = seen, self.clock()
        for beat, at in self._tick_at.items():
            if at > self.clock() + _TICK:
                self._ring(beat, self.clock() + _TICK)

    def _somebody_to_judge(self) -> bool:
        """A worker that has become ready, or fallen silent."""
        return any(
            status == Status.BOOTING or (status == Status.READY and not self.discovery.is_fresh(each))
            for each, status in self.invariants.statuses.items()
        )


@dataclass(frozen=True, slots=True)
class _DueAt:
    """When the first of each is due."""

    instances: datetime
    leaks: datetime
    sweeps: datetime
    any_sweep: bool


_DUE_AT = """
    SELECT (SELECT min(greatest(next_attempt_at, lock_expires_at)) FROM instances WHERE status <> 'TERMINATED'),
           (SELECT min(greatest(next_attempt_at, lock_expires_at)) FROM leaks WHERE ended_at IS NULL),
           (SELECT min(greatest(next_attempt_at, lock_expires_at)) FROM sweeps)
"""


def _due_at() -> _DueAt:
    with connection.cursor() as cursor:
        cursor.execute(_DUE_AT)
        instances, leaks, sweeps = cursor.fetchone()
    return _DueAt(instances or _NEVER, leaks or _NEVER, sweeps or _NEVER, any_sweep=sweeps is not None)
