"""The stand-in's books: everything that was ever made, and what time does to it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from tests.clouds.scaleway.errors import not_found
from tests.clouds.scaleway.faults import Faults

GONE = "gone"


class Thing(Protocol):
    zone: str
    created_at: datetime
    ended_at: datetime | None


T = TypeVar("T", bound=Thing)


@dataclass
class LocalVolume:
    """On the machine itself: goes with it."""

    id: str
    volume_type: str
    size: int
    name: str
    created_at: datetime


@dataclass
class Volume:
    """Block storage. Without a server it is `available`; its server gone, it takes a moment to notice."""

    id: str
    zone: str
    name: str
    size: int
    created_at: datetime
    updated_at: datetime
    tags: list[str] = field(default_factory=list)
    server_id: str | None = None
    reference_id: str = ""
    attached_at: datetime | None = None
    detached_at: datetime | None = None  # in the future: it is detaching
    ready_at: datetime | None = None  # in the future: it is being created
    ended_at: datetime | None = None


@dataclass
class Address:
    id: str
    zone: str
    address: str
    type: str
    created_at: datetime
    dynamic: bool = False
    tags: list[str] = field(default_factory=list)
    server_id: str | None = None
    ended_at: datetime | None = None


@dataclass
class Server:
    id: str
    zone: str
    name: str
    commercial_type: str
    project: str
    created_at: datetime
    modified_at: datetime
    number: int
    image: dict[str, Any] | None
    security_group_id: str
    tags: list[str] = field(default_factory=list)
    volumes: dict[str, LocalVolume | Volume] = field(default_factory=dict)
    dynamic_ip_required: bool = True
    user_data: dict[str, bytes] = field(default_factory=dict)
    state: str = "stopped"
    state_detail: str = ""
    next_state: str = ""  # what time makes of it
    next_at: datetime | None = None  # None: nothing
    ended_at: datetime | None = None


@dataclass
class SecurityGroup:
    id: str
    zone: str
    name: str
    created_at: datetime
    settings: dict[str, Any]
    rules: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Timing:
    """In seconds. The start is the median of 104 recordings (largest: 35), the end likewise (largest: 118)."""

    start: float = 5
    stop: float = 5
    terminate: float = 5
    detach: float = 1
    create_volume: float = 1


@dataclass
class Books:
    clock: Callable[[], datetime]
    timing: Timing
    free_address: Callable[[], str]
    project: str
    secret_key: str | None  # None: any is accepted
    faults: Faults = field(default_factory=Faults)
    lock: threading.RLock = field(default_factory=threading.RLock)
    servers: dict[str, Server] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    addresses: dict[str, Address] = field(default_factory=dict)
    groups: dict[str, SecurityGroup] = field(default_factory=dict)
    ssh_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    _last: datetime | None = None

    def now(self) -> datetime:
        return self.clock()

    def stamp(self) -> datetime:
        """An instant that was never given before: two things are never made at the same one."""
        now = self.now()
        if self._last is not None and now <= self._last:
            now = self._last + timedelta(microseconds=1)
        self._last = now
        return now

    def server(self, id_: str, zone: str) -> Server:
        return _existing(self.servers, id_, zone, "instance_server")

    def volume(self, id_: str, zone: str) -> Volume:
        return _existing(self.volumes, id_, zone, "volume")

    def address(self, id_: str, zone: str) -> Address:
        return _existing(self.addresses, id_, zone, "instance_ip")

    def group(self, id_: str, zone: str) -> SecurityGroup:
        group = self.groups.get(id_)
        if group is None or group.zone != zone:
            raise not_found("instance_security_group", id_)
        return group

    def addresses_of(self, server: Server) -> list[Address]:
        return [one for one in alive(self.addresses.values()) if one.server_id == server.id]

    def listed(self, things: Iterable[T], zone: str) -> list[T]:
        """What a listing of the zone shows by now."""
        visible_from = self.now() - timedelta(seconds=self.faults.late_listing_seconds)
        late = self.faults.late_listing_seconds > 0
        return [one for one in alive(things) if one.zone == zone and (not late or one.created_at <= visible_from)]

    def settle(self) -> None:
        """Let everything happen that was due by now, each at its own instant."""
        now = self.now()
        for server in list(alive(self.servers.values())):
            if server.next_at is not None and server.next_at <= now:
                self._turn(server, server.next_at)
        for volume in alive(self.volumes.values()):
            if volume.detached_at is not None and volume.detached_at <= now:
                volume.server_id = None

    def _turn(self, server: Server, at: datetime) -> None:
        server.state, server.next_at, server.modified_at = server.next_state, None, at
        server.state_detail = "booting kernel" if server.state == "running" else ""
        if server.state == GONE:
            self.end(server, at)
        if server.state == "stopped":
            self._release(server, at)

    def end(self, server: Server, at: datetime) -> None:
        server.state, server.ended_at = GONE, at
        self._release(server, at)
        for volume in server.volumes.values():
            if isinstance(volume, Volume):
                self.detach(volume, at)
        for address in self.addresses_of(server):
            address.server_id = None

    def detach(self, volume: Volume, at: datetime) -> None:
        volume.detached_at = at + timedelta(seconds=self.timing.detach)
        volume.updated_at = at

    def give_dynamic_address(self, server: Server) -> None:
        if server.dynamic_ip_required and not self.addresses_of(server):
            one = Address(new_id(), server.zone, self.free_address(), "routed_ipv4", self.stamp(), dynamic=True)
            one.server_id = server.id
            self.addresses[one.id] = one

    def _release(self, server: Server, at: datetime) -> None:
        for address in self.addresses_of(server):
            if address.dynamic:
                address.ended_at = at


def alive(things: Iterable[T]) -> list[T]:
    return [one for one in things if one.ended_at is None]


def new_id() -> str:
    return str(uuid.uuid4())


def _existing(things: Mapping[str, T], id_: str, zone: str, resource: str) -> T:
    one = things.get(id_)
    if one is None or one.zone != zone or one.ended_at is not None:
        raise not_found(resource, id_)
    return one
