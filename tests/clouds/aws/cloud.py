"""The stand-in as the conformance suite wants a cloud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from fleet.providers.aws import build
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.base import Location
from tests.clouds.aws.catalogue import IMAGE
from tests.clouds.aws.faults import Mishap, Refusal, Trouble
from tests.clouds.aws.stand_in import StandIn, stand_in
from tests.clouds.aws.wire import Call
from tests.fleet.providers.conformance import Fault, a_spec

_TROUBLE: dict[Fault, Trouble] = {
    Fault.UNAUTHORIZED: Refusal(401, "AuthFailure"),
    Fault.FORBIDDEN: Refusal(403, "UnauthorizedOperation"),
    Fault.CONFLICT: Refusal(409, "IncorrectState"),
    Fault.THROTTLED: Mishap.EMPTY_429,
    Fault.BAD_GATEWAY: Mishap.HTML_502,
    Fault.HANG: Mishap.HANG,
    Fault.UNREACHABLE: Mishap.REFUSED,
    Fault.QUOTA: Refusal(400, "VcpuLimitExceeded"),
}
_NOBODY_LISTENS = "http://127.0.0.1:1/"
_SHORT_TIME_OUT, _TIME_OUT = 0.5, 30.0  # seconds; the short one where a hang is waited for


class AwsCloud:
    location = Location(region="us-east-1", zone="us-east-1a")
    other_location = Location(region="us-west-2", zone="us-west-2a")
    instance_type = "g6.xlarge"

    def __init__(self, aws: StandIn) -> None:
        self.aws = aws

    def driver(self, **options: Any) -> AwsProvider:
        usual: dict[str, Any] = {
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "secret_access_key": "wJalrXUtnFEMI-canary-secret",
            "regions": (self.location.region, self.other_location.region),
            "endpoint_url": self.aws.url,
            "read_timeout": _SHORT_TIME_OUT if self.aws.faults.hangs() else _TIME_OUT,
        }
        provider = build(**{**usual, **options})
        provider.clients.session.events.register("before-send.*", self._send)
        return provider

    def _send(self, *, request: Any, event_name: str, **_: Any) -> None:
        """Where a connection is to be refused, send the request to where nobody listens."""
        invocation = request.headers["amz-sdk-invocation-id"].decode()
        dry_run = "true" if "DryRun=true" in str(request.body) else "false"
        call = Call("", "", event_name.rpartition(".")[2], {"DryRun": dry_run}, invocation)
        if self.aws.faults.meets(call) is Mishap.REFUSED:
            request.url = _NOBODY_LISTENS

    # --- watching ---------------------------------------------------------------------------------------------------

    def servers(self) -> int:
        return sum(1 for _ in self.aws.machines.existing())

    def billed(self) -> int:
        self.pass_time(0)
        return self.aws.bill.running()

    def has_server(self, server_id: str) -> bool:
        return any(instance.id == server_id for instance in self.aws.machines.existing())

    # --- what others do ---------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        self.aws.pass_time(timedelta(seconds=seconds))

    def add_servers_of_ours(self, count: int) -> None:
        for _ in range(count):
            self.rent(a_spec(self).tags, self.instance_type)

    def add_foreign_server(self) -> str:
        return self.rent({"owner": "somebody else"}, self.instance_type)

    def switch_off(self, server_id: str) -> None:
        self.aws.machines.region(self.location.region).stop_instances([server_id])

    def rent(self, tags: dict[str, str], instance_type: str) -> str:
        """As anybody would; returns the server's id."""
        backend = self.aws.machines.region(self.location.region)
        subnet = backend.get_default_subnets()[self.location.zone]
        root = {"VolumeSize": 80, "VolumeType": "gp3", "DeleteOnTermination": True}
        reservation = backend.run_instances(
            IMAGE,
            1,
            None,
            [],
            instance_type=instance_type,
            is_instance_type_default=False,
            placement=self.location.zone,
            region_name=self.location.region,
            subnet_id=subnet.id,
            associate_public_ip=True,
            tags={"instance": tags, "volume": tags},
            block_device_mappings=[{"DeviceName": "/dev/sda1", "Ebs": root}],
        )
        self.pass_time(0)
        return str(reservation.instances[0].id)

    # --- trouble ----------------------------------------------------------------------------------------------------

    def lose_next_answer(self) -> None:
        self.befall_next_create(Mishap.ANSWER_LOST)

    def lose_next_request(self) -> None:
        self.befall_next_create(Mishap.REQUEST_LOST)

    def fail_next_create(self, fault: Fault) -> None:
        self.befall_next_create(_TROUBLE[fault])

    def befall_next_create(self, trouble: Trouble) -> None:
        self.aws.faults.await_call(trouble, which=lambda call: call.makes_a_server)

    def fail_next_call(self, fault: Fault) -> None:
        self.aws.faults.await_call(_TROUBLE[fault])

    def list_late(self, seconds: float) -> None:
        self.aws.machines.listing_lag = timedelta(seconds=seconds)

    def list_partially(self) -> None:
        self.aws.listings_end_half_way = True

    def sell_out(self, *, at_start: bool) -> None:
        sold_out = self.aws.machines.sold_out_at_start if at_start else self.aws.sold_out
        sold_out.add((self.instance_type, self.location.zone))

    def hold_deletes(self) -> None:
        self.aws.machines.deletes_are_held = True


@contextmanager
def a_new_cloud() -> Iterator[AwsCloud]:
    aws = stand_in()
    aws.reset()
    yield AwsCloud(aws)
    assert aws.crashes == []
