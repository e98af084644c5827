"""The clouds of the simulation: harsher than any real one, and they keep the bill.

One does not know an attempt again (Scaleway): a create by a caller that did not find the first makes a second machine.
The other does (AWS, by its ClientToken). Both make what they are asked for stopped, with a disk that outlives it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from fleet.providers.base import (
    ABSENT,
    GONE,
    TAG_ATTEMPT,
    TAG_OWNER,
    Absent,
    AmbiguousOutcome,
    CapacityError,
    Conflict,
    Destruction,
    Finding,
    Handle,
    InvalidSpec,
    Location,
    MachineOffer,
    NotFound,
    OwnedResources,
    ProviderError,
    QuotaError,
    Resource,
    ResourceKind,
    ServerSpec,
    ServerState,
    ServerView,
    SshKeySpec,
    Throttled,
    Unavailable,
)
from tests.simulation.clock import Clock
from tests.simulation.director import Director, task_of_this_thread

LISTING_LAG = timedelta(seconds=120)  # what the driver admits
_LATEST_LISTING, _LATEST_GET = 60, 10  # seconds; what happens
_LATENCY = timedelta(milliseconds=200)
_STARTING, _STOPPING = timedelta(seconds=1.5), timedelta(seconds=1.5)  # a real one's polls would tell nothing new
PRICE = Decimal(1)  # of a machine per hour; its disk costs a hundredth
DISK_PRICE = Decimal("0.01")
T = TypeVar("T")


@dataclass
class Machine:
    id: str
    spec: ServerSpec
    created_at: datetime
    listed_from: datetime
    known_from: datetime
    came_late: bool  # its creation was asked for by somebody who had been paused
    disk_id: str
    started_at: datetime | None = None
    user_data: str = ""
    stopping_since: datetime | None = None
    gone_at: datetime | None = None
    said_gone_at: datetime | None = None  # when somebody asked, and was told
    disk_gone_at: datetime | None = None

    @property
    def exists(self) -> bool:
        return self.gone_at is None

    @property
    def tags(self) -> dict[str, str]:
        return self.spec.tags

    @property
    def instance_id(self) -> str:
        return self.spec.instance_id

    @property
    def address(self) -> str:
        # There are few, so that they are used again.
        return f"10.0.0.{int(self.id.removeprefix('srv-')) % 5 + 1}"

    @property
    def is_ours(self) -> bool:
        return self.spec.owner == "inventiv"


@dataclass
class SimulatedCloud:
    clock: Clock
    director: Director
    remembers_attempts: bool  # whether a second create for an attempt gives the first machine back
    on_create: Callable[[ServerSpec], None] = lambda spec: None
    on_start: Callable[[Machine], None] = lambda machine: None
    on_destroy: Callable[[Machine], None] = lambda machine: None
    machines: dict[str, Machine] = field(default_factory=dict)
    stuck_until: datetime | None = None  # deletes are accepted and get nowhere
    refuses_everything: ProviderError | None = None
    sold_out: set[tuple[str, str]] = field(default_factory=set)  # (type, zone)
    listing_lag: timedelta = LISTING_LAG
    changes: int = 0  # of what exists

    # --- the interface --------------------------------------------------------------------------------------------

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        return ()

    def locations(self) -> Sequence[Location]:
        return ()

    def check(self, location: Location) -> Sequence[Finding]:
        return ()

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        raise NotFound("there are no keys")

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        self._call("find before create")
        known = self._find(spec)
        if known is not None:
            return self._reached(self._view(known))
        self._call("create", lost=True)
        self._refuse(spec)
        self.on_create(spec)
        machine = self._make(spec)
        self.director.tell(f"cloud: made {machine.id} for attempt {spec.attempt_id}")
        self._answer("created")
        return self._view(machine)

    def configure(self, handle: Handle, user_data: str) -> None:
        self._call("configure")
        machine = self._existing(handle)
        if machine.started_at is not None and machine.user_data != user_data:
            raise Conflict("started with other user data")
        machine.user_data = user_data
        self._reached(None)

    def start(self, handle: Handle) -> None:
        self._call("start")
        machine = self._existing(handle)
        if machine.stopping_since is not None:
            raise Conflict("it is being destroyed")
        if machine.started_at is None:
            if self._has_none(machine.spec) or self.director.strikes(self.director.chances.sold_out_at_start):
                raise CapacityError("none left to start")
            machine.started_at = self.clock()
            self.on_start(machine)
        self._answer("started")

    def get(self, handle: Handle) -> ServerView | Absent:
        self._call("get")
        machine = self._look(handle.server_id)
        if machine is None or self.clock() < machine.known_from:
            return self._reached(ABSENT)
        return self._reached(self._view(machine))

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        self._call("find attempt")
        listed = self._listed(location)
        if self.director.strikes(self.director.chances.partial_listing):
            raise Unavailable("the listing ended half-way")
        for machine in listed:
            if machine.tags[TAG_ATTEMPT] == attempt_id:
                return self._reached(self._view(machine))
        return self._reached(None)

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        self._call("list")
        machines = [machine for machine in self._listed(location) if machine.tags[TAG_OWNER] == owner]
        disks = [m for m in self._everything(location) if m.disk_gone_at is None and m.tags[TAG_OWNER] == owner]
        complete = not self.director.strikes(self.director.chances.partial_listing)
        if not complete:
            machines, disks = machines[: len(machines) // 2], disks[: len(disks) // 2]
        listing = OwnedResources(
            servers=tuple(self._view(machine) for machine in machines),
            volumes=tuple(_disk(machine) for machine in disks if self.clock() >= machine.listed_from),
            ips=(),
            complete=complete,
        )
        return self._reached(listing)

    def destroy_step(self, handle: Handle) -> Destruction:
        self._call("destroy")
        machine = self._look(handle.server_id)
        if machine is not None and self.clock() < machine.known_from:
            return self._reached(GONE)  # "not found", a moment after it was made
        remaining = {machine.id} if machine is not None and self._destroy_server(machine) else set()
        if handle.server_id in self.machines and not remaining:
            gone = self.machines[handle.server_id]
            gone.said_gone_at = gone.said_gone_at or self.clock()
        for owner in self._disks(handle):
            remaining |= self._destroy_disk(owner)
        self._answer("destroying")
        return Destruction(frozenset(remaining))

    # --- what a schedule does to it ---------------------------------------------------------------------------------

    def forsake(self, zone: str, *, now: datetime, owner: str = "inventiv") -> Machine:
        """A machine with an owner's tags that no row knows."""
        spec = ServerSpec(
            attempt_id=f"nobody-{len(self.machines)}",
            instance_id=f"nobody-{len(self.machines)}",
            location=Location("eu", zone),
            instance_type="SMALL",
            root_volume_gb=10,
            user_data="",
            owner=owner,
        )
        machine = self._make(spec)
        machine.started_at = now
        return machine

    def die(self, machine: Machine) -> None:
        """The host fails: the machine is off, and costs on."""
        machine.started_at = None

    @property
    def alive(self) -> list[Machine]:
        """Ours that exist."""
        return [machine for machine in self.machines.values() if machine.exists and machine.is_ours]

    @property
    def disks(self) -> list[Machine]:
        """Ours, there or not, whose disk is."""
        return [machine for machine in self.machines.values() if machine.disk_gone_at is None and machine.is_ours]

    def settle(self) -> None:
        """Let what is stopping be gone, once its time has come: as of that time."""
        for machine in self.machines.values():
            if machine.exists and machine.stopping_since is not None and not self._is_stuck():
                done = machine.stopping_since + _STOPPING
                if self.clock() >= done:
                    machine.gone_at = done
                    self.changes += 1

    # --- steps ------------------------------------------------------------------------------------------------------

    def _call(self, name: str, *, lost: bool = False) -> None:
        """A call on its way to the cloud: it may be held up, lost, or refused at the door. `lost`: a create."""
        self.director.at(name)
        self.clock.forward(_LATENCY)
        self.settle()
        chances = self.director.chances
        if self.refuses_everything is not None:
            self._fail(self.refuses_everything)
        if self.director.strikes(chances.throttle):
            self._fail(Throttled("429"))
        if self.director.strikes(chances.unavailable):
            self._fail(Unavailable("no route"))
        if lost and self.director.strikes(chances.lose_request):
            self._fail(AmbiguousOutcome("time-out; the request was lost"))

    def _answer(self, name: str) -> None:
        """The cloud has done it; the answer may be lost, or its receiver held up."""
        if self.director.strikes(self.director.chances.lose_answer):
            self._fail(AmbiguousOutcome(f"time-out; {name}, but the answer was lost"))
        self.director.at(name, after=True)

    def _reached(self, answer: T) -> T:
        self.director.at("answered", after=True)
        return answer

    def _fail(self, error: ProviderError) -> None:
        self.director.tell(f"cloud: {type(error).__name__}: {error}")
        raise error

    def _refuse(self, spec: ServerSpec) -> None:
        chances = self.director.chances
        if self.director.strikes(chances.quota):
            self._fail(QuotaError("the quota is used up"))
        if self._has_none(spec) or self.director.strikes(chances.sold_out):
            self._fail(CapacityError("none left"))

    def _has_none(self, spec: ServerSpec) -> bool:
        return (spec.instance_type, spec.location.zone) in self.sold_out

    def _find(self, spec: ServerSpec) -> Machine | None:
        machines = [m for m in self._everything(spec.location) if m.spec.attempt_id == spec.attempt_id]
        if not self.remembers_attempts:
            machines = [m for m in machines if m.exists and self.clock() >= m.listed_from]
        elif any(not machine.exists for machine in machines):
            raise InvalidSpec("this attempt had its machine, which is destroyed")
        return machines[0] if machines else None

    def _make(self, spec: ServerSpec) -> Machine:
        number = len(self.machines) + 1
        late, chances = self.director.rng, self.director.chances
        task = task_of_this_thread()
        machine = Machine(
            id=f"srv-{number}",
            spec=spec,
            created_at=self.clock(),
            listed_from=self.clock(),
            known_from=self.clock(),
            came_late=task is not None and task.paused,
            disk_id=f"vol-{number}",
        )
        if self.director.strikes(chances.late_listing):
            machine.listed_from += timedelta(seconds=late.uniform(0, _LATEST_LISTING))
        if self.director.strikes(chances.late_get):
            machine.known_from += timedelta(seconds=late.uniform(0, _LATEST_GET))
        self.machines[machine.id] = machine
        self.changes += 1
        return machine

    def _destroy_server(self, machine: Machine) -> bool:
        """Whether it is still there."""
        if machine.stopping_since is None:
            self.on_destroy(machine)
            machine.stopping_since = self.clock()
            if self.director.strikes(self.director.chances.stuck_delete):
                self.stuck_until = self.clock() + timedelta(minutes=20)
                self.director.tell("cloud: deletes get nowhere for 20 minutes")
        return machine.exists

    def _destroy_disk(self, machine: Machine) -> set[str]:
        """Its id while it is there. A disk that hangs on a machine can't go before it."""
        if machine.disk_gone_at is None and not machine.exists:
            machine.disk_gone_at = self.clock()
            self.changes += 1
        return {machine.disk_id} if machine.disk_gone_at is None else set()

    def _disks(self, handle: Handle) -> list[Machine]:
        """Those that are asked for, and nothing besides: what its caller has forgotten stays."""
        return [machine for machine in self.machines.values() if machine.disk_id in handle.volume_ids]

    def _is_stuck(self) -> bool:
        return self.stuck_until is not None and self.clock() < self.stuck_until

    def _look(self, server_id: str) -> Machine | None:
        machine = self.machines.get(server_id)
        return machine if machine is not None and machine.exists else None

    def _existing(self, handle: Handle) -> Machine:
        machine = self._look(handle.server_id)
        if machine is None or self.clock() < machine.known_from:
            raise NotFound(handle.server_id)
        return machine

    def _everything(self, location: Location) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.spec.location == location]

    def _listed(self, location: Location) -> list[Machine]:
        return [m for m in self._everything(location) if m.exists and self.clock() >= m.listed_from]

    def _view(self, machine: Machine) -> ServerView:
        disk = _disk(machine)
        return ServerView(
            handle=Handle(machine.id, machine.spec.location, volume_ids=(machine.disk_id,)),
            state=self._state(machine),
            ip_address=machine.address if self._state(machine) is ServerState.RUNNING else None,
            tags=machine.tags,
            created_at=machine.created_at,
            instance_type=machine.spec.instance_type,
            attachments=(disk,),
        )

    def _state(self, machine: Machine) -> ServerState:
        if machine.stopping_since is not None:
            return ServerState.STOPPING
        if machine.started_at is None:
            return ServerState.STOPPED
        return ServerState.RUNNING if self.clock() >= machine.started_at + _STARTING else ServerState.STARTING


def _disk(machine: Machine) -> Resource:
    return Resource(
        kind=ResourceKind.VOLUME,
        id=machine.disk_id,
        location=machine.spec.location,
        price_per_hour=DISK_PRICE,
        currency="EUR",
        tags=machine.tags,
        created_at=machine.created_at,
        server_id=machine.id if machine.exists else "",
    )
