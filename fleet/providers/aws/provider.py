"""The driver: one AWS account."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from fleet.providers.aws import (
    checks,
    ending,
    images,
    inventory,
    keys,
    launch,
    listing,
    network,
    offers,
    power,
    servers,
    zones,
)
from fleet.providers.aws.clients import Clients
from fleet.providers.aws.errors import TokenUsedOtherwise, translated
from fleet.providers.aws.lookup import find_instance
from fleet.providers.aws.prices import PriceList
from fleet.providers.base import (
    ABSENT,
    TAG_ATTEMPT,
    Absent,
    AmbiguousOutcome,
    CapacityError,
    Conflict,
    Destruction,
    Finding,
    Handle,
    Ingress,
    InvalidSpec,
    Location,
    MachineOffer,
    NotFound,
    OwnedResources,
    ProviderError,
    QuotaError,
    ServerSpec,
    ServerView,
    SshKeySpec,
)

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import InstanceTypeDef

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    return datetime.now(UTC)


class AwsProvider:
    remembers_attempts = True  # by its client token

    def __init__(
        self,
        clients: Clients,
        *,
        regions: Sequence[str],
        image: str,
        subnets: Mapping[str, str],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.clients = clients
        self.regions = regions
        self.image = image
        self.subnets = subnets
        self._clock = clock
        self._price_list = PriceList(clients)

    @property
    def listing_lag(self) -> timedelta:
        """EC2 is eventually consistent and promises no bound; new instances are mostly listed within seconds.

        What comes later still does no harm for a day: a create that is repeated carries the same client token.
        """
        return timedelta(seconds=60)

    # --- asking ---------------------------------------------------------------------------------------------------

    def locations(self) -> Sequence[Location]:
        return tuple(place for region in self.regions for place in zones.of_region(self.clients.ec2(region), region))

    def list_offers(self, location: Location) -> Sequence[MachineOffer]:
        return offers.of(self.clients.ec2(location.region), location, self._price_list, now=self._clock())

    def get(self, handle: Handle) -> ServerView | Absent:
        instance = find_instance(self._ec2(handle.location), handle.server_id)
        if instance is None or servers.state_of(instance) == servers.TERMINATED:
            return ABSENT
        return self._view(instance, handle.location)

    def find_attempt(self, attempt_id: str, location: Location) -> ServerView | None:
        instance = self._instance_of(attempt_id, location)
        if instance is None or servers.state_of(instance) == servers.TERMINATED:
            return None
        return self._view(instance, location)

    def list_owned(self, location: Location, owner: str) -> OwnedResources:
        return inventory.of(self._ec2(location), location, owner)

    def check(self, location: Location) -> Sequence[Finding]:
        return checks.of(self.clients, location, image=self.image, subnets=self.subnets)

    # --- making ---------------------------------------------------------------------------------------------------

    def ensure_server(self, spec: ServerSpec) -> ServerView:
        rules = network.check_ingress(spec.ingress)
        existing = self._instance_of(spec.attempt_id, spec.location)
        if existing is not None:
            return self._found(existing, spec)
        try:
            return self._make(spec, rules)
        except TokenUsedOtherwise:
            return self._made_before(spec)

    def configure(self, handle: Handle, user_data: str) -> None:
        """Compares only: AWS has started the machine with what `ensure_server` gave it."""
        self._existing(handle)
        with translated():
            answer = self._ec2(handle.location).describe_instance_attribute(
                InstanceId=handle.server_id, Attribute="userData"
            )
            present = base64.b64decode(answer.get("UserData", {}).get("Value", ""))
        if present != user_data.encode():
            raise Conflict(f"{handle.server_id} was started with other user data")

    def start(self, handle: Handle) -> None:
        power.start(self._ec2(handle.location), self._existing(handle, terminated_too=True))

    def ensure_ssh_key(self, key: SshKeySpec) -> str:
        """In every region of the account: a machine can have only the key pairs of its own."""
        for region in self.regions:
            keys.ensure_key(self.clients.ec2(region), key)
        return keys.key_name(key.public_key)

    # --- ending ---------------------------------------------------------------------------------------------------

    def destroy_step(self, handle: Handle) -> Destruction:
        return ending.step(self._ec2(handle.location), handle)

    # --- instances ------------------------------------------------------------------------------------------------

    def _ec2(self, location: Location) -> EC2Client:
        return self.clients.ec2(location.region)

    def _make(self, spec: ServerSpec, rules: frozenset[Ingress]) -> ServerView:
        ec2, region = self._ec2(spec.location), spec.location.region
        image = images.look_up(self.clients, region, self.image)
        subnet = network.subnet_of(ec2, spec.location, self.subnets)
        group_id = network.ensure_group(ec2, vpc_id=subnet.vpc_id, owner=spec.owner, rules=rules)
        request = launch.request_of(spec, image=image, subnet=subnet, group_ids=[group_id])
        instance = launch.run(self.clients.ec2_once(region), request)
        # No call from here on: one that failed would make it look as if there was no machine.
        volumes = servers.root_volume_of(instance, spec.location, gigabytes=image.root_gb(spec.root_volume_gb))
        return servers.view_of(instance, spec.location, volumes)

    def _made_before(self, spec: ServerSpec) -> ServerView:
        """An earlier call for the attempt got through with other bytes: the newest image may have changed since."""
        try:
            instance = self._instance_of(spec.attempt_id, spec.location)
        except ProviderError as error:
            raise AmbiguousOutcome(f"a server was made for {spec.attempt_id}; looking it up: {error}") from error
        if instance is None:
            raise AmbiguousOutcome(f"a server was made for {spec.attempt_id}, and is not in the listings")
        return self._found(instance, spec)

    def _found(self, instance: InstanceTypeDef, spec: ServerSpec) -> ServerView:
        """The attempt's server, made by an earlier call."""
        if servers.state_of(instance) == servers.TERMINATED:
            raise _why_not_another(instance, spec.attempt_id)
        try:
            return self._view(instance, spec.location)
        except ProviderError as error:
            # The machine exists, and that has to get home. What hangs on it, the next look tells.
            log.warning("%s: its volumes can't be looked up: %s", instance["InstanceId"], error)
            return servers.view_of(instance, spec.location)

    def _instance_of(self, attempt_id: str, location: Location) -> InstanceTypeDef | None:
        """The attempt's instance in whatever state, from all pages; one that is not terminated first."""
        found = listing.instances(self._ec2(location), {f"tag:{TAG_ATTEMPT}": attempt_id}).whole()
        return min(found, key=lambda instance: servers.state_of(instance) == servers.TERMINATED, default=None)

    def _existing(self, handle: Handle, *, terminated_too: bool = False) -> InstanceTypeDef:
        instance = find_instance(self._ec2(handle.location), handle.server_id)
        if instance is None:
            raise NotFound(f"{handle.location.region} has no instance {handle.server_id}")
        if servers.state_of(instance) == servers.TERMINATED and not terminated_too:
            raise NotFound(f"{handle.server_id} is terminated")
        return instance

    def _view(self, instance: InstanceTypeDef, location: Location) -> ServerView:
        attached = listing.volumes(self._ec2(location), {"attachment.instance-id": instance["InstanceId"]}).whole()
        ours = servers.volume_ids_of(instance)
        volumes = [servers.volume_of(volume, location) for volume in attached if volume["VolumeId"] in ours]
        return servers.view_of(instance, location, volumes)


def _why_not_another(instance: InstanceTypeDef, attempt_id: str) -> ProviderError:
    """Of a terminated instance. One that never ran for want of capacity is a stock-out like any other."""
    reason = power.why_it_ended(instance)
    if isinstance(reason, (CapacityError, QuotaError)):
        return reason
    return InvalidSpec(f"attempt {attempt_id} had its server, which is terminated: it can't have another")
