"""The mock cloud's driver: the provider interface on the cloud's books and its machines."""

from __future__ import annotations

import shutil
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fleet.providers.base import (
    ABSENT,
    GONE,
    TAG_OWNER,
    Absent,
    AmbiguousOutcome,
    AuthError,
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
    ServerSpec,
    ServerState,
    ServerView,
    SshKeySpec,
    Stock,
    Throttled,
    Unavailable,
    Verdict,
)
from fleet.providers.mock import machine
from fleet.providers.mock.chaos import Chaos
from fleet.providers.mock.limit import admit
from fleet.providers.mock.offers import MachineType, price_list
from fleet.providers.mock.store import Books, Server, Store


def utc_now() -> datetime:
    return datetime.now(UTC)


class MockProvider:
    """A cloud on this machine, kept in `home`. As many of them as you like may share a home, in any process."""

    remembers_attempts = True

    def __init__(self, home: Path, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.home = home
        self.store = Store(home)
        self._clock = clock

    @property
    def listing_lag(self) -> timedelta:
        with self.store.transaction() as books:
            return timedelta(seconds=Chaos(books).amount("late_listing_seconds"))

    # --- asking ---------------------------------------------------------------------------------------------------

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        with self._call() as (_, chaos):
            _check(location)
            return tuple(_offer(entry, location, chaos) for entry in price_list().types.values())

    def get(self, handle: Handle) -> ServerView | Absent:
        with self._call() as (books, chaos):
            server = _server(books, handle)
            return ABSENT if server is None else self._view(server, chaos)

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        with self._call() as (books, chaos):
            servers, complete = self._listing(books, chaos, location)
            for server in servers:
                if server.attempt_id == attempt_id:
                    return self._view(server, chaos)
            if not complete:
                raise Unavailable("the listing ended half-way: it proves nothing missing")
            return None

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        with self._call() as (books, chaos):
            servers, complete = self._listing(books, chaos, location)
            views = tuple(self._view(server, chaos) for server in servers if server.tags.get(TAG_OWNER) == owner)
            return OwnedResources(servers=views, volumes=(), ips=(), complete=complete)

    def locations(self) -> Sequence[Location]:
        with self._call():
            return tuple(Location(region, zone) for region, zones in price_list().regions.items() for zone in zones)

    def check(self, location: Location) -> Sequence[Finding]:
        try:
            offers = self.list_offers(location)
        except ProviderError as error:
            return (Finding("the mock cloud", Verdict.MISSING, str(error)),)
        return (Finding("the mock cloud", Verdict.WORKS, f"{len(offers)} types in {location.zone}"),)

    # --- making ---------------------------------------------------------------------------------------------------

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        with self._call() as (books, chaos):
            server = books.server_of_attempt(spec.attempt_id)
            if server is not None:
                return self._found(server, chaos)
            entry = _check_spec(spec)
            if chaos.strikes("lost_requests"):
                raise AmbiguousOutcome("no answer to the create (the request was lost)")
            if chaos.strikes("quota"):
                raise QuotaError(f"the account's quota of {spec.instance_type} is used up")
            if chaos.covers("stockout", instance_type=spec.instance_type, zone=spec.location.zone):
                raise CapacityError(f"{spec.location.zone} has no {spec.instance_type} left")
            server = self._make(books, spec, entry)
            if chaos.strikes("lost_answers"):
                raise AmbiguousOutcome("no answer to the create (the answer was lost)")
            return self._view(server, chaos)

    def configure(self, handle: Handle, user_data: str) -> None:
        with self._call() as (books, _):
            server = _existing(books, handle)
            if server.user_data == user_data:
                return
            if server.started_at is not None:
                raise Conflict(f"{server.id} was started with other user data")
            books.change(server, user_data=user_data)

    def start(self, handle: Handle) -> None:
        with self._call() as (books, chaos):
            server = _existing(books, handle)
            if server.deleting_at is not None:
                raise Conflict(f"{server.id} is being deleted")
            if machine.is_on(server):
                return
            if chaos.covers("stockout_at_start", instance_type=server.instance_type, zone=server.zone):
                raise CapacityError(f"{server.zone} has no {server.instance_type} left to start")
            machine.start(books, server, home=self.home, now=self._clock())

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        with self._call() as (books, _):
            return books.ssh_key(f"key-{uuid.uuid4()}", name=key.name, public_key=key.public_key)

    # --- ending ---------------------------------------------------------------------------------------------------

    def destroy_step(self, handle: Handle) -> Destruction:
        with self._call() as (books, chaos):
            server = _server(books, handle)
            if server is None:
                return GONE
            if server.deleting_at is None:
                books.change(server, deleting_at=self._clock())
            if chaos.strikes("stuck_deletes") or machine.send(server, signal.SIGKILL):
                return Destruction(frozenset({server.id}))
            shutil.rmtree(machine.directory(self.home, server.id), ignore_errors=True)
            books.change(server, deleted_at=self._clock(), pid=None, pid_started=None)
            return GONE

    # --- the cloud's own affairs ----------------------------------------------------------------------------------

    @contextmanager
    def _call(self) -> Iterator[tuple[Books, Chaos]]:
        """Every call begins here: one transaction, and the faults that any call may meet."""
        with self.store.transaction() as books:
            chaos = Chaos(books)
            if chaos.strikes("unavailable"):
                raise Unavailable("the mock cloud can't be reached")
            limit = chaos.amount("calls_per_second")
            if not admit(books, calls_per_second=limit, now=self._clock()) or chaos.strikes("throttled"):
                raise Throttled("too many calls to the mock cloud")
            if chaos.strikes("auth_failure"):
                raise AuthError("the mock cloud does not accept these credentials")
            if chaos.strikes("conflict"):
                raise Conflict("the mock cloud is busy with the same thing")
            yield books, chaos

    def _make(self, books: Books, spec: ServerSpec, entry: MachineType) -> Server:
        server = Server(
            id=f"mock-{uuid.uuid4()}",
            attempt_id=spec.attempt_id,
            tags=spec.tags,
            region=spec.location.region,
            zone=spec.location.zone,
            instance_type=entry.name,
            price_per_hour=entry.spot_price_per_hour if spec.spot else entry.price_per_hour,
            currency=entry.currency,
            root_volume_gb=spec.root_volume_gb,
            address=machine.free_address(books.addresses_in_use()),
            user_data=spec.user_data,
            created_at=self._clock(),
        )
        books.add(server)
        return server

    def _found(self, server: Server, chaos: Chaos) -> ServerView:
        """The attempt's server, made by an earlier call."""
        if server.deleted_at is not None:
            raise InvalidSpec(f"attempt {server.attempt_id} had its server, which is destroyed: it can't have another")
        if not self._is_listed(server, chaos):
            raise AmbiguousOutcome(f"attempt {server.attempt_id} was asked for before, and is not in the listings yet")
        return self._view(server, chaos)

    def _listing(self, books: Books, chaos: Chaos, location: Location) -> tuple[list[Server], bool]:
        _check(location)
        servers = books.servers(zone=location.zone)
        listed = [server for server in servers if self._is_listed(server, chaos)]
        if chaos.strikes("partial_listings"):
            return listed[: len(listed) // 2], False
        return listed, True

    def _is_listed(self, server: Server, chaos: Chaos) -> bool:
        return self._clock() >= server.created_at + timedelta(seconds=chaos.amount("late_listing_seconds"))

    def _view(self, server: Server, chaos: Chaos) -> ServerView:
        state = self._state(server, chaos)
        return ServerView(
            handle=Handle(
                server_id=server.id,
                location=Location(region=server.region, zone=server.zone),
            ),
            state=state,
            ip_address=server.address if state is ServerState.RUNNING else None,
            tags=server.tags,
            created_at=server.created_at,
            instance_type=server.instance_type,
        )

    def _state(self, server: Server, chaos: Chaos) -> ServerState:
        if server.deleting_at is not None:
            return ServerState.STOPPING
        if server.started_at is None or not machine.is_on(server):
            return ServerState.STOPPED
        if self._clock() < server.started_at + timedelta(seconds=chaos.amount("start_seconds")):
            return ServerState.STARTING
        return ServerState.RUNNING


def _server(books: Books, handle: Handle) -> Server | None:
    """As a zone's own API answers: what is in another zone is not found."""
    server = books.server(handle.server_id)
    if server is None or server.deleted_at is not None or server.zone != handle.location.zone:
        return None
    return server


def _existing(books: Books, handle: Handle) -> Server:
    server = _server(books, handle)
    if server is None:
        raise NotFound(f"{handle.location.zone} has no server {handle.server_id}")
    return server


def _check(location: Location) -> None:
    if not price_list().has(location.region, location.zone):
        raise InvalidSpec(f"the mock cloud has no zone {location.zone} in a region {location.region}")


def _check_spec(spec: ServerSpec) -> MachineType:
    _check(spec.location)
    if spec.instance_type not in price_list().types:
        raise InvalidSpec(f"the mock cloud has no type {spec.instance_type}")
    if spec.root_volume_gb <= 0:
        raise InvalidSpec("a root volume of 0 GB can't hold a system")
    return price_list().types[spec.instance_type]


def _offer(entry: MachineType, location: Location, chaos: Chaos) -> MachineOffer:
    sold_out = any(
        chaos.covers(name, instance_type=entry.name, zone=location.zone) for name in ("stockout", "stockout_at_start")
    )
    return MachineOffer(
        instance_type=entry.name,
        location=location,
        gpu_name=entry.gpu_name,
        gpu_count=entry.gpu_count,
        vram_per_gpu_gb=entry.vram_per_gpu_gb,
        price_per_hour=entry.price_per_hour,
        currency=entry.currency,
        stock=Stock.SHORTAGE if sold_out else Stock.AVAILABLE,
        spot_price_per_hour=entry.spot_price_per_hour,
    )
