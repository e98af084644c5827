"""A cloud on paper: the provider interface in memory, with the faults a cloud can have. No processes, no time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from fleet.providers.base import (
    ABSENT,
    GONE,
    Absent,
    AmbiguousOutcome,
    Destruction,
    Finding,
    Handle,
    Location,
    MachineOffer,
    NotFound,
    OwnedResources,
    ProviderError,
    ServerSpec,
    ServerState,
    ServerView,
    SshKeySpec,
)


@dataclass
class PaperCloud:
    now: Callable[[], datetime]
    listing_lag: timedelta = timedelta(0)
    servers: dict[str, ServerView] = field(default_factory=dict)
    created: list[str] = field(default_factory=list)  # every server ever made
    user_data: dict[str, str] = field(default_factory=dict)
    # Faults: raised by the next calls of that name, one after the other.
    faults: dict[str, list[ProviderError]] = field(default_factory=dict)
    lose_answers: int = 0  # creates that happen, and whose answer is lost
    stuck_deletes: int = 0  # destroy steps that come to nothing
    on_call: Callable[[str], None] = lambda name: None
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        return ()

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        self._call("ensure_server")
        known = self._by_attempt(spec.attempt_id)
        if known is not None:
            return known
        number = next(self._ids)
        handle = Handle(server_id=f"srv-{number}", location=spec.location, volume_ids=(f"vol-{number}",))
        view = ServerView(handle, ServerState.STOPPED, None, spec.tags, self.now())
        self.servers[handle.server_id] = view
        self.created.append(handle.server_id)
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
        if view is None or view.created_at is None or self.now() < view.created_at + self.listing_lag:
            return None
        return view

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        return OwnedResources(tuple(self.servers.values()), (), (), complete=True)

    def locations(self) -> Sequence[Location]:
        return ()

    def check(self, location: Location) -> Sequence[Finding]:
        return ()

    def destroy_step(self, handle: Handle) -> Destruction:
        self._call("destroy_step")
        if handle.server_id not in self.servers:
            return GONE
        if self.stuck_deletes:
            self.stuck_deletes -= 1
            return Destruction(frozenset({handle.server_id}))
        del self.servers[handle.server_id]
        return Destruction(frozenset({handle.server_id}))

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        raise NotFound("a cloud on paper has no SSH keys")

    # --- what a test does to it -------------------------------------------------------------------------------

    def fail_next(self, call: str, *errors: ProviderError) -> None:
        self.faults.setdefault(call, []).extend(errors)

    def set_state(self, server_id: str, state: ServerState, ip: str | None = None) -> None:
        view = self.servers[server_id]
        self.servers[server_id] = replace(view, state=state, ip_address=ip or view.ip_address)

    def _by_attempt(self, attempt_id: str) -> ServerView | None:
        return next((view for view in self.servers.values() if view.tags["inv-attempt"] == attempt_id), None)

    def _call(self, name: str) -> None:
        self.on_call(name)
        if self.faults.get(name):
            raise self.faults[name].pop(0)
