"""The two clouds as these tests want them: what a driver needs to reach one, what it bills, how it goes wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from fleet.providers import registry
from fleet.providers.aws.provider import AwsProvider
from fleet.providers.base import Location, Provider
from tests.clouds.aws.cloud import AwsCloud, a_new_cloud
from tests.clouds.aws.faults import Mishap, Refusal, Trouble
from tests.clouds.scaleway import Fault
from tests.fleet.providers.scaleway_cloud import ACCESS_KEY, SECRET_KEY, ScalewayCloud


class Crash(BaseException):
    """The worker's process ends here."""


@dataclass
class Wire:
    """Where on its way to the cloud and back a worker is to be stopped, once."""

    before: str = ""  # the call that is not sent any more
    after: str = ""  # the call that is carried out, and whose answer nobody reads
    calls: list[str] = field(default_factory=list)  # all that were answered

    def sends(self, call: str) -> None:
        if self.before and call.startswith(self.before):
            self.before = ""
            raise Crash(f"before {call}")

    def receives(self, call: str) -> None:
        self.calls.append(call)
        if self.after and call.startswith(self.after):
            self.after = ""
            raise Crash(f"after {call}")


@dataclass(frozen=True, slots=True)
class Line:
    """Of a bill."""

    kind: str
    id: str
    since: datetime
    until: datetime | None
    price_per_hour: Decimal

    def amount(self, now: datetime) -> Decimal:
        return self.price_per_hour * Decimal(((self.until or now) - self.since).total_seconds()) / 3600


class Cloud(Protocol):
    """What is asked of either; `instance_type` is the cheapest that the model fits, `larger` the next one by price."""

    name: str
    zones: tuple[Location, Location]
    instance_type: str
    larger: str
    create: str  # as `Wire` calls it
    wire: Wire

    def options(self) -> dict[str, Any]:
        """What the settings would give to the driver."""

    def build(self, options: dict[str, Any]) -> Provider: ...

    def now(self) -> datetime: ...

    def pass_time(self, seconds: float) -> None: ...

    def bill(self) -> list[Line]: ...

    def user_data(self, server_id: str) -> str: ...

    def address(self, server_id: str) -> str | None: ...

    def sell_out(self, instance_type: str, zone: str, *, at_start: bool = False) -> None: ...

    def restock(self) -> None: ...

    def refuse_quota(self) -> None:
        """Of the next create."""

    def lose_answer(self) -> None:
        """Of the next create, which is carried out."""

    def lose_request(self) -> None:
        """Of the next create."""

    def list_late(self, seconds: float) -> None: ...

    def refuse_everything(self, how: str) -> None:
        """How: one of OUTAGES; "" ends it."""

    def rent(self, tags: Mapping[str, str], *, running: bool = False) -> str:
        """A server, by somebody who is not us, in the first zone; returns its id. (AWS starts each that it makes.)"""

    def rent_volume(self, tags: Mapping[str, str]) -> str: ...

    def rent_address(self, tags: Mapping[str, str]) -> str: ...

    def remove_server(self, server_id: str) -> None:
        """As somebody with the console would."""


OUTAGES = ("401", "502", "429")


# --- Scaleway ---------------------------------------------------------------------------------------------------------

_OUTAGES_OF_SCALEWAY = {"401": Fault.UNAUTHORIZED, "502": Fault.BAD_GATEWAY, "429": Fault.THROTTLED}


class Scaleway:
    name = "scaleway"
    zones = (Location("fr-par", "fr-par-1"), Location("fr-par", "fr-par-2"))
    instance_type = "L4-1-24G"
    larger = "L40S-1-48G"  # in the second zone alone
    create = "POST servers"

    def __init__(self) -> None:
        self.wire = Wire()
        self._cloud = ScalewayCloud()
        self._cloud.location = self.zones[0]
        self._fake = self._cloud.fake
        self._faults = self._fake.faults

    def start(self) -> None:
        self._fake.start()

    def close(self) -> None:
        self._fake.close()

    def options(self) -> dict[str, Any]:
        return {
            "access_key": ACCESS_KEY,
            "secret_key": SECRET_KEY,
            "project_id": self._fake.books.project,
            "api_url": self._fake.url,
            "image": "",
        }

    def build(self, options: dict[str, Any]) -> Provider:
        session = requests.Session()
        session.mount("http://", _Watched(self.wire))
        return registry.build(self.name, **options, session=session)

    def now(self) -> datetime:
        return self._fake.books.now()

    def pass_time(self, seconds: float) -> None:
        self._cloud.pass_time(seconds)

    def bill(self) -> list[Line]:
        return [Line(line.kind, line.id, line.since, line.until, line.price_per_hour) for line in self._fake.bill()]

    def user_data(self, server_id: str) -> str:
        return self._fake.books.servers[server_id].user_data["cloud-init"].decode()

    def address(self, server_id: str) -> str | None:
        books = self._fake.books
        return next((one.address for one in books.addresses_of(books.servers[server_id])), None)

    def sell_out(self, instance_type: str, zone: str, *, at_start: bool = False) -> None:
        (self._faults.sold_out_at_start if at_start else self._faults.sold_out_at_create).add((instance_type, zone))

    def restock(self) -> None:
        self._faults.sold_out_at_start.clear()
        self._faults.sold_out_at_create.clear()

    def refuse_quota(self) -> None:
        self._faults.next_creates.append(Fault.QUOTA)

    def lose_answer(self) -> None:
        self._faults.lost_answers += 1

    def lose_request(self) -> None:
        self._faults.next_creates.append(Fault.DROPPED)

    def list_late(self, seconds: float) -> None:
        self._faults.late_listing_seconds = seconds

    def refuse_everything(self, how: str) -> None:
        self._faults.outage = _OUTAGES_OF_SCALEWAY[how] if how else None

    def rent(self, tags: Mapping[str, str], *, running: bool = False) -> str:
        server_id = self._cloud.add_server(_joined(tags)).server_id
        if running:
            self._ask("POST", "instance/v1", f"servers/{server_id}/action", {"action": "poweron"})
        return server_id

    def rent_volume(self, tags: Mapping[str, str]) -> str:
        body = {"name": "data", "from_empty": {"size": 50 * 10**9}, "tags": _joined(tags)}
        return str(self._ask("POST", "block/v1", "volumes", body)["id"])

    def rent_address(self, tags: Mapping[str, str]) -> str:
        body = {"type": "routed_ipv4", "tags": _joined(tags)}
        return str(self._ask("POST", "instance/v1", "ips", body)["ip"]["id"])

    def remove_server(self, server_id: str) -> None:
        books = self._fake.books
        with books.lock:
            books.end(books.servers[server_id], books.now())

    def _ask(self, method: str, api: str, path: str, body: Any) -> Any:
        url = f"{self._fake.url}/{api}/zones/{self.zones[0].zone}/{path}"
        answer = requests.request(method, url, json=body, headers={"X-Auth-Token": SECRET_KEY}, timeout=30)
        answer.raise_for_status()
        return answer.json()


class _Watched(HTTPAdapter):
    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        call = _call(request)
        self._wire.sends(call)
        answer = super().send(request, *args, **kwargs)
        self._wire.receives(call)
        return answer


def _call(request: requests.PreparedRequest) -> str:
    """`PATCH volumes/<id>`, `POST servers/<id>/action poweron`: what follows the zone."""
    path = urlsplit(request.url or "").path
    _, _, below = path.partition("/zones/")
    action = (request.body or b"") if path.endswith("/action") else b""
    said = action.decode() if isinstance(action, bytes) else action
    return f"{request.method} {below.partition('/')[2] or path} {said}".strip()


def _joined(tags: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in tags.items()]


# --- AWS --------------------------------------------------------------------------------------------------------------

_OUTAGES_OF_AWS: dict[str, Trouble] = {
    "401": Refusal(401, "AuthFailure"),
    "502": Mishap.HTML_502,
    "429": Mishap.EMPTY_429,
}


class Aws:
    name = "aws"
    zones = (Location("us-east-1", "us-east-1a"), Location("us-east-1", "us-east-1b"))
    instance_type = "g4dn.xlarge"
    larger = "g6.xlarge"
    create = "RunInstances"

    def __init__(self, cloud: AwsCloud) -> None:
        self.wire = Wire()
        self._cloud = cloud
        self._aws = cloud.aws

    def options(self) -> dict[str, Any]:
        return {
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "regions": [self.zones[0].region],
            "endpoint_url": self._aws.url,
            "image": "",
        }

    def build(self, options: dict[str, Any]) -> Provider:
        provider = registry.build(self.name, **options)
        assert isinstance(provider, AwsProvider)
        events = provider.clients.session.events
        events.register("before-send.*", lambda event_name, **_: self.wire.sends(event_name.rpartition(".")[2]))
        events.register("after-call.*", lambda event_name, **_: self.wire.receives(event_name.rpartition(".")[2]))
        return provider

    def now(self) -> datetime:
        return self._aws.machines.now

    def pass_time(self, seconds: float) -> None:
        self._cloud.pass_time(seconds)

    def bill(self) -> list[Line]:
        self._cloud.pass_time(0)
        return [Line(line.kind, line.id, line.since, line.until, line.price_per_hour) for line in self._aws.bill.lines]

    def user_data(self, server_id: str) -> str:
        return str(self._instance(server_id).user_data.decode())

    def address(self, server_id: str) -> str | None:
        address: str | None = self._instance(server_id).public_ip
        return address

    def grant_vcpus(self, number: float) -> None:
        self._aws.catalogue.quotas = dict.fromkeys(self._aws.catalogue.quotas, number)

    def give_everybody(self, address: str) -> None:
        self._aws.machines.free_address = address

    def sell_out(self, instance_type: str, zone: str, *, at_start: bool = False) -> None:
        (self._aws.machines.sold_out_at_start if at_start else self._aws.sold_out).add((instance_type, zone))

    def restock(self) -> None:
        self._aws.machines.sold_out_at_start.clear()
        self._aws.sold_out.clear()

    def refuse_quota(self) -> None:
        self._cloud.befall_next_create(Refusal(400, "VcpuLimitExceeded"))

    def lose_answer(self) -> None:
        self._cloud.lose_next_answer()

    def lose_request(self) -> None:
        self._cloud.lose_next_request()

    def list_late(self, seconds: float) -> None:
        self._cloud.list_late(seconds)

    def refuse_everything(self, how: str) -> None:
        known: dict[str, Trouble] = {
            "401": Refusal(401, "AuthFailure"),
            "502": Mishap.HTML_502,
            "429": Mishap.EMPTY_429,
        }
        self._aws.faults.outage = known[how] if how else None

    def rent(self, tags: Mapping[str, str], *, running: bool = False) -> str:
        return self._cloud.rent(dict(tags), self.instance_type)

    def rent_volume(self, tags: Mapping[str, str]) -> str:
        volume = self._ec2.create_volume(50, self.zones[0].zone)
        self._ec2.create_tags([volume.id], dict(tags))
        self._cloud.pass_time(0)
        return str(volume.id)

    def rent_address(self, tags: Mapping[str, str]) -> str:
        address = self._ec2.allocate_address("vpc")
        self._ec2.create_tags([address.allocation_id], dict(tags))
        self._cloud.pass_time(0)
        return str(address.allocation_id)

    def remove_server(self, server_id: str) -> None:
        self._ec2.terminate_instances([server_id])
        self._cloud.pass_time(0)

    @property
    def _ec2(self) -> Any:
        return self._aws.machines.region(self.zones[0].region)

    def _instance(self, server_id: str) -> Any:
        return self._ec2.get_instance(server_id)


@contextmanager
def open_cloud(name: str) -> Iterator[Cloud]:
    if name == "aws":
        with a_new_cloud() as cloud:
            yield Aws(cloud)
        return
    scaleway = Scaleway()
    scaleway.start()
    try:
        yield scaleway
    finally:
        scaleway.close()
