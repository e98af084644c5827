"""Scaleway's driver: the provider interface on its API."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from scaleway_core.bridge import ALL_ZONES

from fleet.providers.base import (
    ABSENT,
    TAG_ATTEMPT,
    TAG_INSTANCE,
    TAG_OWNER,
    Absent,
    AmbiguousOutcome,
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
    ServerSpec,
    ServerState,
    ServerView,
    SshKeySpec,
    Unavailable,
)
from fleet.providers.scaleway import (
    answers,
    destruction,
    firewall,
    images,
    inspection,
    inventory,
    machine_types,
    servers,
    ssh_keys,
    volumes,
)
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.exchange import Json

log = logging.getLogger(__name__)

_OUR_TAGS = frozenset({TAG_OWNER, TAG_INSTANCE, TAG_ATTEMPT})
# The SDK for Python does not know the last one; that for Go does (InstanceZones).
_ZONES = tuple(dict.fromkeys((*ALL_ZONES, "pl-waw-3")))
_NEVER_SAID = datetime.max.replace(tzinfo=UTC)


class ScalewayProvider:
    """One project. Safe to make as often as you like; what it remembers only saves calls."""

    listing_lag = timedelta(seconds=120)
    remembers_attempts = False

    def __init__(self, account: Account, *, image: str) -> None:
        self.account = account
        self.image = image
        self._types: dict[str, dict[str, Json]] = {}  # by zone

    # --- asking ---------------------------------------------------------------------------------------------------

    def locations(self) -> Sequence[Location]:
        return tuple(Location(region=zone.rpartition("-")[0], zone=zone) for zone in _ZONES)

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        return machine_types.offers(self.account, location)

    def get(self, handle: Handle) -> ServerView | Absent:
        try:
            server = self._server(handle)
        except NotFound:
            return ABSENT
        return self._view(server, handle.location)

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        server = self._server_of(attempt_id, location)
        return None if server is None else self._view(server, location)

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        return inventory.take(self.account, location, owner)

    def check(self, location: Location) -> Sequence[Finding]:
        return inspection.findings(self.account, location, image=self.image)

    # --- making ---------------------------------------------------------------------------------------------------

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        """As in `Provider`. Once there is a server every failure is an AmbiguousOutcome: the next call finds it."""
        _check(spec)
        found = self._server_of(spec.attempt_id, spec.location)
        server = found or self._create(spec)
        with _unclear():
            if found is None:
                server = self._settle(spec, server)
            tagged = self._tag_volumes(server, spec.location)
            return answers.server_view(server, location=spec.location, volumes=tagged)

    def configure(self, handle: Handle, user_data: str) -> None:
        server = self._server(handle)
        if answers.state(server) is not ServerState.STOPPED:
            if servers.user_data(self.account, handle.server_id, handle.location) != user_data:
                raise Conflict(f"server {handle.server_id} was started with other user data")
            return
        # The last moment before it costs much: a caller who crashed after the create left its volume without tags.
        self._tag_volumes(server, handle.location)
        servers.set_user_data(self.account, handle.server_id, user_data, handle.location)

    def start(self, handle: Handle) -> None:
        if self._is_on(handle):
            return
        try:
            servers.act(self.account, handle.server_id, "poweron", handle.location)
        except Conflict:
            # Another worker may have been quicker.
            if not self._is_on(handle):
                raise

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        return ssh_keys.ensure(self.account, key)

    # --- ending ---------------------------------------------------------------------------------------------------

    def destroy_step(self, handle: Handle) -> Destruction:
        return destruction.step(self.account, handle)

    # --- servers of an attempt ------------------------------------------------------------------------------------

    def _server_of(self, attempt_id: str, location: Location) -> Json | None:
        """The eldest, if callers who raced have left several."""
        found = servers.with_tag(self.account, TAG_ATTEMPT, attempt_id, location).whole()
        return min(found.values(), key=_age, default=None)

    def _create(self, spec: ServerSpec) -> Json:
        with _nothing_made():
            entry = self._machine_type(spec)
            image_id = images.image_id(
                self.account, self.image, instance_type=spec.instance_type, location=spec.location
            )
            group_id = firewall.ensure_group(self.account, spec)
        made = servers.create(
            self.account,
            spec,
            image_id=image_id,
            security_group_id=group_id,
            scratch_bytes=machine_types.scratch_bytes(entry),
        )
        log.info("server %s made in %s for attempt %s", made["id"], spec.location.zone, spec.attempt_id)
        return made

    def _machine_type(self, spec: ServerSpec) -> Json:
        zone = spec.location.zone
        if spec.instance_type not in self._types.get(zone, {}):
            self._types[zone] = machine_types.of_zone(self.account, spec.location)
        if spec.instance_type not in self._types[zone]:
            raise InvalidSpec(f"{zone} has no machine type {spec.instance_type}")
        return self._types[zone][spec.instance_type]

    def _settle(self, spec: ServerSpec, made: Json) -> Json:
        """Of callers who raced the one whose server is the eldest keeps it, each other removes what it made itself.

        Nobody removes another's: it may be about to be started. The eldest was there before any other was made, so
        whoever made another sees it, unless the listing lags.
        """
        listed = servers.with_tag(self.account, TAG_ATTEMPT, spec.attempt_id, spec.location).whole()
        eldest = min((made, *listed.values()), key=_age)
        if eldest["id"] == made["id"]:
            return made
        log.warning("attempt %s has server %s already: removing %s", spec.attempt_id, eldest["id"], made["id"])
        self._tag_volumes(made, spec.location)
        surplus = answers.handle(made, location=spec.location)
        destruction.step(self.account, surplus)
        # Its volume, if that is free at once. If it is not, the sweep finds it by its tags.
        destruction.step(self.account, surplus)
        return eldest

    # --- one server -----------------------------------------------------------------------------------------------

    def _server(self, handle: Handle) -> Json:
        if not handle.server_id:
            raise InvalidSpec("a handle without a server names none to look at")
        return servers.read(self.account, handle.server_id, handle.location)

    def _view(self, server: Json, location: Location) -> ServerView:
        found = volumes.read_all(self.account, answers.block_volume_ids(server), location)
        return answers.server_view(server, location=location, volumes=found)

    def _tag_volumes(self, server: Json, location: Location) -> list[Json]:
        """The server's block volumes, with our tags of the server on each."""
        ours = {name: value for name, value in answers.tags(server).items() if name in _OUR_TAGS}
        found = volumes.read_all(self.account, answers.block_volume_ids(server), location)
        return volumes.tag(self.account, found, ours, location)

    def _is_on(self, handle: Handle) -> bool:
        """Whether it runs or is about to. Raises Conflict for one that could not be started now."""
        state = answers.state(self._server(handle))
        if state in {ServerState.STOPPING, ServerState.UNKNOWN}:
            raise Conflict(f"server {handle.server_id} is {state}: it can't be started")
        return state is not ServerState.STOPPED


def _check(spec: ServerSpec) -> None:
    firewall.check(spec.ingress)
    if spec.spot:
        raise InvalidSpec("Scaleway rents no spot machines")
    if spec.root_volume_gb <= 0:
        raise InvalidSpec("a root volume of 0 GB can't hold a system")
    if any("," in tag for tag in answers.as_tags(spec.tags)):
        raise InvalidSpec("a comma in a tag would be two tags to Scaleway")


@contextmanager
def _nothing_made() -> Iterator[None]:
    """What goes before a create can be repeated: however unclear its outcome, no machine has come of it."""
    try:
        yield
    except AmbiguousOutcome as error:
        raise Unavailable(str(error)) from error


@contextmanager
def _unclear() -> Iterator[None]:
    """There is a server, and nobody has heard of it yet: no error may read as if nothing had been made."""
    try:
        yield
    except ProviderError as error:
        raise AmbiguousOutcome(f"there is a server, but: {error}") from error


def _age(server: Json) -> tuple[datetime, str]:
    return (answers.instant(server.get("creation_date")) or _NEVER_SAID, answers.text(server.get("id")))
