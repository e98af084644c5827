"""A mock cloud per test, with a clock that stands still; its machines end with the test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from fleet.providers.base import Location
from fleet.providers.mock import machine, power
from fleet.providers.mock.bill import bill
from fleet.providers.mock.chaos import Chaos
from fleet.providers.mock.provider import MockProvider
from fleet.providers.mock.store import Server, Store
from tests.fleet.providers.conformance import Fault, a_spec

_CHAOS_OF_A_CALL = {
    Fault.UNAUTHORIZED: "auth_failure",
    Fault.FORBIDDEN: "auth_failure",
    Fault.CONFLICT: "conflict",
    Fault.THROTTLED: "throttled",
    Fault.BAD_GATEWAY: "unavailable",
    Fault.HANG: "unavailable",
    Fault.UNREACHABLE: "unavailable",
}
_CHAOS_OF_A_CREATE = _CHAOS_OF_A_CALL | {
    Fault.BAD_GATEWAY: "lost_requests",
    Fault.HANG: "lost_requests",
    Fault.QUOTA: "quota",
}


class MockCloud:
    location = Location(region="mock-eu", zone="mock-eu-1")
    other_location = Location(region="mock-us", zone="mock-us-1")
    instance_type = "MOCK-L4-1-24G"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.now = datetime(2026, 10, 1, 12, tzinfo=UTC)

    def driver(self) -> MockProvider:
        return MockProvider(self.home, clock=lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def servers(self) -> int:
        return self.billed()

    def billed(self) -> int:
        return sum(line.until is None for line in bill(Store(self.home), now=self.now).lines)

    def add_foreign_server(self) -> str:
        return self._add(tags={"owner": "somebody else"})

    def add_servers_of_ours(self, count: int) -> None:
        for _ in range(count):
            spec = a_spec(self)
            self._add(tags=spec.tags, attempt_id=spec.attempt_id)

    def _add(self, *, tags: dict[str, str], attempt_id: str | None = None) -> str:
        with Store(self.home).transaction() as books:
            server = Server(
                id=f"mock-{uuid.uuid4()}",
                attempt_id=attempt_id,
                tags=tags,
                region=self.location.region,
                zone=self.location.zone,
                instance_type=self.instance_type,
                price_per_hour=Decimal("0.7875"),
                currency="EUR",
                root_volume_gb=20,
                address=machine.free_address(books.addresses_in_use()),
                user_data="",
                created_at=self.now,
            )
            books.add(server)
        return server.id

    def has_server(self, server_id: str) -> bool:
        with Store(self.home).transaction() as books:
            server = books.server(server_id)
        return server is not None and server.deleted_at is None

    def chaos(self, name: str, value: str) -> None:
        with Store(self.home).transaction() as books:
            Chaos(books).set(name, value)

    def lose_next_answer(self) -> None:
        self.chaos("lost_answers", "1")

    def lose_next_request(self) -> None:
        self.chaos("lost_requests", "1")

    def list_late(self, seconds: float) -> None:
        self.chaos("late_listing_seconds", str(seconds))

    def list_partially(self) -> None:
        self.chaos("partial_listings", "on")

    def sell_out(self, *, at_start: bool) -> None:
        name = "stockout_at_start" if at_start else "stockout"
        self.chaos(name, f"{self.instance_type}@{self.location.zone}")

    def switch_off(self, server_id: str) -> None:
        power.kill(self.home, server_id)

    def fail_next_call(self, fault: Fault) -> None:
        self.chaos(_CHAOS_OF_A_CALL[fault], "1")

    def fail_next_create(self, fault: Fault) -> None:
        self.chaos(_CHAOS_OF_A_CREATE[fault], "1")

    def hold_deletes(self) -> None:
        self.chaos("stuck_deletes", "on")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[MockCloud]:
    cloud = MockCloud(tmp_path / "mock")
    yield cloud
    power.wipe(cloud.home)
