"""Scaleway's stand-in as the conformance suite's cloud: a clock that stands still, drivers over real connections."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from fleet.providers.base import Handle, Location
from fleet.providers.scaleway import build
from fleet.providers.scaleway.account import TIMEOUT
from fleet.providers.scaleway.provider import ScalewayProvider
from tests.clouds.scaleway import FakeScaleway
from tests.clouds.scaleway import Fault as CloudFault
from tests.fleet.providers.conformance import Fault, a_spec

ACCESS_KEY = "SCW" + "X" * 17
SECRET_KEY = "22222222-2222-4222-8222-222222222222"

_SHORT = (5.0, 0.7)  # seconds; for a driver that is about to wait in vain
_OF_THE_CLOUD = {
    Fault.UNAUTHORIZED: CloudFault.UNAUTHORIZED,
    Fault.FORBIDDEN: CloudFault.FORBIDDEN,
    Fault.CONFLICT: CloudFault.CONFLICT,
    Fault.THROTTLED: CloudFault.THROTTLED,
    Fault.BAD_GATEWAY: CloudFault.BAD_GATEWAY,
    Fault.HANG: CloudFault.HANG,
    Fault.QUOTA: CloudFault.QUOTA,
}
Request = requests.PreparedRequest


class ScalewayCloud:
    location = Location(region="fr-par", zone="fr-par-2")
    other_location = Location(region="pl-waw", zone="pl-waw-2")
    instance_type = "L4-1-24G"

    def __init__(self) -> None:
        self._now = datetime(2026, 10, 1, 12, tzinfo=UTC)
        self.fake = FakeScaleway(clock=lambda: self._now, secret_key=SECRET_KEY)
        self.sent: list[tuple[Request, Any]] = []  # every request of any driver, and its time-out
        self.before_next_create: Callable[[], object] | None = None  # what another does in between
        self._unreachable: deque[Callable[[Request], bool]] = deque()  # of which request, in turn
        self._is_about_to_hang = False

    def driver(self, *, image: str = "") -> ScalewayProvider:
        timeout, self._is_about_to_hang = (_SHORT if self._is_about_to_hang else TIMEOUT), False
        session = requests.Session()
        session.mount("http://", _Line(self))
        return build(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            project_id=self.fake.books.project,
            api_url=self.fake.url,
            image=image,
            timeout=timeout,
            session=session,
        )

    def pass_time(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def servers(self) -> int:
        return sum(line.kind == "server" and line.until is None for line in self.fake.bill())

    def billed(self) -> int:
        return sum(line.until is None for line in self.fake.bill())

    def add_servers_of_ours(self, count: int) -> None:
        for _ in range(count):
            self.add_server([f"{name}={value}" for name, value in a_spec(self).tags.items()])

    def add_foreign_server(self) -> str:
        return self.add_server(["somebody-else"]).server_id

    def add_server(self, tags: list[str]) -> Handle:
        """As somebody would with curl; its volume carries no tags."""
        body = {
            "commercial_type": self.instance_type,
            "project": self.fake.books.project,
            "tags": tags,
            "volumes": {"0": {"volume_type": "sbs_volume", "size": 20 * 10**9}},
        }
        made = self.ask("POST", "servers", body)["server"]
        return Handle(made["id"], self.location, volume_ids=(made["volumes"]["0"]["id"],))

    def has_server(self, server_id: str) -> bool:
        return any(line.id == server_id and line.until is None for line in self.fake.bill())

    def switch_off(self, server_id: str) -> None:
        self.fake.switch_off(server_id)

    def lose_next_answer(self) -> None:
        self.fake.faults.lost_answers += 1

    def lose_next_request(self) -> None:
        self.fake.faults.next_creates.append(CloudFault.DROPPED)

    def list_late(self, seconds: float) -> None:
        self.fake.faults.late_listing_seconds = seconds

    def list_partially(self) -> None:
        self.fake.faults.partial_listings = True

    def sell_out(self, *, at_start: bool) -> None:
        faults = self.fake.faults
        places = faults.sold_out_at_start if at_start else faults.sold_out_at_create
        places.add((self.instance_type, self.location.zone))

    def fail_next_call(self, fault: Fault) -> None:
        self._is_about_to_hang = fault is Fault.HANG
        if fault is Fault.UNREACHABLE:
            self._unreachable.append(lambda request: True)
        else:
            self.fake.faults.next_calls.append(_OF_THE_CLOUD[fault])

    def fail_next_create(self, fault: Fault) -> None:
        self._is_about_to_hang = fault is Fault.HANG
        if fault is Fault.UNREACHABLE:
            self._unreachable.append(_is_create)
        else:
            self.fake.faults.next_creates.append(_OF_THE_CLOUD[fault])

    def hold_deletes(self) -> None:
        self.fake.faults.held_deletes = True

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A call of somebody else, with curl say: `path` is below the zone."""
        url = f"{self.fake.url}/instance/v1/zones/{self.location.zone}/{path}"
        answer = requests.request(method, url, json=body, headers={"X-Auth-Token": SECRET_KEY}, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def calls(self) -> list[str]:
        """What the drivers have asked so far: "POST /servers", "DELETE /ips/..."."""
        return [
            f"{request.method} {urlsplit(request.url or '').path.rpartition('zones/')[2]}" for request, _ in self.sent
        ]

    def is_reachable_for(self, request: Request) -> bool:
        if self._unreachable and self._unreachable[0](request):
            self._unreachable.popleft()
            return False
        return True


class _Line(HTTPAdapter):
    """A driver's connection to the cloud. Cut, it leads to a port on which nobody listens."""

    def __init__(self, cloud: ScalewayCloud) -> None:
        super().__init__()
        self._cloud = cloud

    def send(self, request: Request, *args: Any, **kwargs: Any) -> requests.Response:
        self._cloud.sent.append((request, kwargs.get("timeout")))
        if self._cloud.before_next_create is not None and _is_create(request):
            meanwhile, self._cloud.before_next_create = self._cloud.before_next_create, None
            meanwhile()
        if not self._cloud.is_reachable_for(request):
            request.url = f"http://127.0.0.1:{_closed_port()}{request.path_url}"
        return super().send(request, *args, **kwargs)


def _is_create(request: Request) -> bool:
    return request.method == "POST" and urlsplit(request.url or "").path.endswith("/servers")


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
