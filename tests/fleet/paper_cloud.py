"""A cloud on paper: the provider interface in memory, with the faults a cloud can have. No processes, no time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from fleet.providers.base import (
    ABSENT,
    TAG_ATTEMPT,
    TAG_OWNER,
    Absent,
    AmbiguousOutcome,
    Destruction,
    Finding,
    Handle,
    Location,
    MachineOffer,
    OwnedResources,
    ProviderError,
    Resource,
    ResourceKind,
    ServerSpec,
    ServerState,
    ServerView,
    SshKeySpec,
)


@dataclass
class PaperCloud:
    now: Callable[[], datetime]
    listing_lag: timedelta = timedelta(0)
    remembers_attempts: bool = False
    servers: dict[str, ServerView] = field(default_factory=dict)
    volumes: dict[str, Resource] = field(default_factory=dict)  # of every server one; and what a test adds
    ips: dict[str, Resource] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)  # every server ever made
    destroyed: list[Handle] = field(default_factory=list)  # what destroy_step was asked for
    specs: list[ServerSpec] = field(default_factory=list)  # what each create asked for
    ssh_keys: dict[str, str] = field(default_factory=dict)  # public key: id
    user_data: dict[str, str] = field(default_factory=dict)
    offers: dict[Location, list[MachineOffer]] = field(default_factory=dict)
    # Faults: raised by the next calls of that name, one after the other.
    faults: dict[str, list[ProviderError]] = field(default_factory=dict)
    outage: ProviderError | None = None  # raised by every call
    lose_answers: int = 0  # creates that happen, and whose answer is lost
    stuck_deletes: int = 0  # destroy steps that come to nothing
    unlisted: set[str] = field(default_factory=set)  # servers and volumes that listings leave out
    half_listings: bool = False  # listings end before their last server
    on_call: Callable[[str], None] = lambda name: None
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        self._call("list_offers")
        return tuple(self.offers[location])

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        self.specs.append(spec)
        self._call("ensure_server")
        known = self._by_attempt(spec.attempt_id)
        if known is not None:
            return known
        view = self.add_server(spec.location, spec.tags)
        if self.lose_answers:
            self.lose_answers -= 1
            raise AmbiguousOutcome("no answer")
        return view

    def configure(self, handle: Handle, user_data: str) -> None:
        self._call("configure")
        self.user_data[handle.server_id] = user_data

    def start(self, handle: Handle) -> None:
        self._call("start")
        number = int(handle.server_id.removeprefix("srv-"))
        self.set_state(handle.server_id, ServerState.RUNNING, ip=f"10.0.0.{number}")

    def get(self, handle: Handle) -> ServerView | Absent:
        self._call("get")
        return self.servers.get(handle.server_id, ABSENT)

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        self._call("find_attempt")
        view = self._by_attempt(attempt_id)
        return view if view is not None and self._is_listed(view) else None

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        servers = tuple(
            view
            for view in self.servers.values()
            if view.handle.location == location and view.tags.get(TAG_OWNER) == owner and self._is_listed(view)
        )
        owned = OwnedResources(
            servers=servers[:-1] if self.half_listings else servers,
            volumes=self._listed(self.volumes, location, owner),
            ips=self._listed(self.ips, location, owner),
            complete=not self.half_listings,
        )
        self._call("list_owned")  # the answer is on its way: what happens now is not in it
        return owned

    def locations(self) -> Sequence[Location]:
        self._call("locations")
        return tuple(self.offers)

    def check(self, location: Location) -> Sequence[Finding]:
        return ()

    def destroy_step(self, handle: Handle) -> Destruction:
        """The machine first; what hangs on it, or is named alone, in the step after."""
        self._call("destroy_step")
        self.destroyed.append(handle)
        named = {handle.server_id, *handle.volume_ids, *handle.ip_ids} & (
            self.servers.keys() | self.volumes.keys() | self.ips.keys()
        )
        if self.stuck_deletes and named:
            self.stuck_deletes -= 1
            return Destruction(frozenset(named))
        if handle.server_id in self.servers:
            del self.servers[handle.server_id]
            self._detach(handle.server_id)
            return Destruction(frozenset(named))
        in_use = {resource_id for resource_id in named if self._hangs_on_a_server(resource_id)}
        for resource_id in named - in_use:
            self.volumes.pop(resource_id, None)
            self.ips.pop(resource_id, None)
        return Destruction(frozenset(in_use))

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        self._call("ensure_ssh_key")
        return self.ssh_keys.setdefault(key.public_key, f"key-{len(self.ssh_keys) + 1}")

    # --- what a test does to it -------------------------------------------------------------------------------

    def fail_next(self, call: str, *errors: ProviderError) -> None:
        self.faults.setdefault(call, []).extend(errors)

    def set_state(self, server_id: str, state: ServerState, ip: str | None = None) -> None:
        view = self.servers[server_id]
        self.servers[server_id] = replace(view, state=state, ip_address=ip or view.ip_address)

    def add_server(self, location: Location, tags: Mapping[str, str], instance_type: str = "") -> ServerView:
        """Stopped, with a volume; whoever asked for it."""
        number = next(self._ids)
        server_id = f"srv-{number}"
        volume = self.add_volume(location, tags, volume_id=f"vol-{number}", server_id=server_id)
        view = ServerView(
            handle=Handle(server_id=server_id, location=location, volume_ids=(volume.id,)),
            state=ServerState.STOPPED,
            ip_address=None,
            tags=tags,
            created_at=self.now(),
            instance_type=instance_type,
            attachments=(volume,),
        )
        self.servers[server_id] = view
        self.created.append(server_id)
        return view

    def add_volume(
        self, location: Location, tags: Mapping[str, str], *, volume_id: str, server_id: str = ""
    ) -> Resource:
        volume = Resource(ResourceKind.VOLUME, volume_id, location, Decimal("0.01"), "EUR", tags, self.now(), server_id)
        self.volumes[volume_id] = volume
        return volume

    def add_ip(self, location: Location, tags: Mapping[str, str], *, ip_id: str) -> Resource:
        self.ips[ip_id] = Resource(ResourceKind.IP, ip_id, location, Decimal("0.004"), "EUR", tags, self.now())
        return self.ips[ip_id]

    @property
    def is_empty(self) -> bool:
        """Nothing is billed."""
        return not (self.servers or self.volumes or self.ips)

    def _by_attempt(self, attempt_id: str) -> ServerView | None:
        return next((view for view in self.servers.values() if view.tags.get(TAG_ATTEMPT) == attempt_id), None)

    def _is_listed(self, thing: ServerView) -> bool:
        if thing.handle.server_id in self.unlisted:
            return False
        return thing.created_at is None or self.now() >= thing.created_at + self.listing_lag

    def _listed(self, resources: Mapping[str, Resource], location: Location, owner: str) -> tuple[Resource, ...]:
        return tuple(
            resource
            for resource in resources.values()
            if resource.location == location
            and resource.tags.get(TAG_OWNER) == owner
            and resource.id not in self.unlisted
        )

    def _hangs_on_a_server(self, resource_id: str) -> bool:
        resource = self.volumes.get(resource_id) or self.ips[resource_id]
        return resource.server_id in self.servers

    def _detach(self, server_id: str) -> None:
        for kept in (self.volumes, self.ips):
            for resource in list(kept.values()):
                if resource.server_id == server_id:
                    kept[resource.id] = replace(resource, server_id="")

    def _call(self, name: str) -> None:
        self.on_call(name)
        if self.faults.get(name):
            raise self.faults[name].pop(0)
        if self.outage is not None:
            raise self.outage
