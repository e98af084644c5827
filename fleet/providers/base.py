"""The provider interface: what a cloud must be able to do, in frozen values, and the errors it may answer with.

A driver sees neither the ORM nor the catalogue, never sleeps and never polls: the clock is the orchestrator's.
Adding a provider is one folder beside this file, one line in `registry.py` and one conformance test class.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

# --- values -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Location:
    region: str  # the provider's name: "fr-par", "us-east-1"
    zone: str  # "fr-par-2", "us-east-1a"


class Stock(enum.StrEnum):
    AVAILABLE = "available"
    SCARCE = "scarce"
    SHORTAGE = "shortage"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class MachineOffer:
    """A machine type that a provider rents in one zone, by the provider's own word."""

    instance_type: str
    location: Location
    gpu_name: str
    gpu_count: int
    vram_per_gpu_gb: int  # as on the vendor's label
    price_per_hour: Decimal | None  # of the machine alone; None: the provider can't be asked for prices
    currency: str  # ISO 4217
    stock: Stock
    spot_price_per_hour: Decimal | None = None  # where the provider rents it as spot / preemptible


@dataclass(frozen=True, slots=True)
class Ingress:
    """Who may open connections to a machine: everything else is closed from outside."""

    port: int
    cidr: str  # "203.0.113.7/32"


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What to rent. `attempt_id` is the idempotency key: one server per attempt, ever."""

    attempt_id: str
    instance_id: str
    location: Location
    instance_type: str
    root_volume_gb: int
    user_data: str  # cloud-init; holds no secret but the one-time bootstrap token
    ssh_key_ids: tuple[str, ...] = ()
    ingress: tuple[Ingress, ...] = ()
    spot: bool = False  # cheaper, and the provider may take it back
    owner: str = "inventiv"  # the installation: two of them may share an account of the provider

    @property
    def tags(self) -> dict[str, str]:
        return {TAG_OWNER: self.owner, TAG_INSTANCE: self.instance_id, TAG_ATTEMPT: self.attempt_id}


TAG_OWNER = "inv-owner"
TAG_INSTANCE = "inv-instance"
TAG_ATTEMPT = "inv-attempt"


class ResourceKind(enum.StrEnum):
    SERVER = "server"
    VOLUME = "volume"
    IP = "ip"


@dataclass(frozen=True, slots=True)
class Resource:
    """A volume or an address: what a provider bills beside the machine, and what may outlive it."""

    kind: ResourceKind
    id: str
    location: Location
    price_per_hour: Decimal
    currency: str  # ISO 4217
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None  # None: the provider does not say
    server_id: str = ""  # the machine that it hangs on; empty: none


@dataclass(frozen=True, slots=True)
class Handle:
    """All that is needed to find and destroy a machine and what hangs on it. Stored before power-on."""

    server_id: str
    location: Location
    volume_ids: tuple[str, ...] = ()
    ip_ids: tuple[str, ...] = ()


class ServerState(enum.StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    UNKNOWN = "unknown"  # a state that the driver has not met: neither running nor gone


@dataclass(frozen=True, slots=True)
class ServerView:
    handle: Handle
    state: ServerState
    ip_address: str | None
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None
    instance_type: str = ""
    attachments: tuple[Resource, ...] = ()  # the volumes and addresses that are billed beside it


class Absent(enum.Enum):
    """The provider's own, typed "not found". Nothing else means gone."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT


@dataclass(frozen=True, slots=True)
class Destruction:
    """How far a destruction has come."""

    remaining: frozenset[str]  # ids that the provider has not said to be gone: servers, volumes, addresses

    @property
    def is_complete(self) -> bool:
        """The provider says that nothing of it remains."""
        return not self.remaining


GONE = Destruction(frozenset())


@dataclass(frozen=True, slots=True)
class OwnedResources:
    """Everything with our tags in one location. A listing that is not `complete` proves nothing missing, though what
    is in it exists."""

    servers: tuple[ServerView, ...]
    volumes: tuple[Resource, ...]  # attached ones too
    ips: tuple[Resource, ...]  # likewise
    complete: bool


@dataclass(frozen=True, slots=True)
class SshKeySpec:
    name: str
    public_key: str


class Verdict(enum.StrEnum):
    WORKS = "works"
    MISSING = "missing"  # nothing can be rented before somebody does something about it
    UNCLEAR = "unclear"  # could not be found out without renting


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that renting needs, and whether the account has it."""

    subject: str  # "credentials", "permission to create servers", "image", "quota of L4-1-24G" ...
    verdict: Verdict
    detail: str  # in plain words; for what is missing, also what to do about it


# --- the interface ----------------------------------------------------------------------------------------------


class Provider(Protocol):
    """A cloud. Every method may raise any `ProviderError`; none blocks longer than its HTTP time-outs."""

    @property
    def listing_lag(self) -> timedelta:
        """For how long a new server may be missing from listings: an unclear create is not settled before."""

    @property
    def remembers_attempts(self) -> bool:
        """Whether the cloud itself holds an attempt to one server, in listings or not, destroyed or not.

        Where it does not, nothing but the caller does: no second `ensure_server` before `listing_lag` has passed, and
        none for an attempt that is closed.
        """

    def locations(self) -> Sequence[Location]:
        """Every zone in which the account could rent."""

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        """The GPU types that the zone has. One that is not in it is no longer rented there."""

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        """Find the server with the attempt's tag, or create it. It may come back stopped."""

    def configure(self, handle: Handle, user_data: str) -> None:
        """Hand the machine its cloud-init. Safe to repeat until the machine is started."""

    def start(self, handle: Handle) -> None:
        """Power on. Safe to repeat."""

    def get(self, handle: Handle) -> ServerView | Absent:
        """ABSENT only on a typed not-found."""

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        """The server that carries the attempt's tag, from a complete listing; None if there is none in it.

        None settles an unclear create only when it is repeated: listings lag.
        """

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        """What carries the tag of the installation `owner`. Raises only where not even a part could be listed."""

    def destroy_step(self, handle: Handle) -> Destruction:
        """Take the next step towards nothing being left: the machine, its volumes, its addresses, in that order.

        Idempotent, re-entrant, never waits. A handle without a `server_id` destroys what else it names.
        """

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        """Register the public key; returns its id at the provider."""

    def check(self, location: Location) -> Sequence[Finding]:
        """What renting there needs and whether it is there, found out without renting. Raises nothing."""


# --- errors: each names the decision that it demands ----------------------------------------------------------------


class ProviderError(Exception):
    """Something that a provider answered, or did not answer."""

    code = "provider_error"


class CapacityError(ProviderError):
    """The zone has none of this type left: take the next offer."""

    code = "capacity"


class QuotaError(ProviderError):
    """The account may not have (more of) this type: take the next offer, skip the type for a while."""

    code = "quota"


class AuthError(ProviderError):
    """The credentials are wrong or lack a right: stop and alarm; no other offer of this provider can do better."""

    code = "auth"


class InvalidSpec(ProviderError):
    """The provider refuses what was asked for: stop and alarm; repeating can't help."""

    code = "invalid_spec"


class NotFound(ProviderError):
    """The thing does not exist, by the provider's own typed word."""

    code = "not_found"


class Conflict(ProviderError):
    """The thing is in another state than the call needs: look again later."""

    code = "conflict"


class Throttled(ProviderError):
    """Too many calls, and nothing was changed: repeat later, more slowly."""

    code = "throttled"

    def __init__(self, message: str = "", *, retry_after: timedelta | None = None) -> None:
        """`retry_after`: when the next call may be let through, where that is known."""
        super().__init__(message)
        self.retry_after = retry_after


class AmbiguousOutcome(ProviderError):
    """It may or may not have happened (time-out, 5xx, unreadable answer): settle it before anything else is tried."""

    code = "ambiguous"


class Unavailable(ProviderError):
    """The provider can't be reached, and nothing was changed: repeat later."""

    code = "unavailable"
