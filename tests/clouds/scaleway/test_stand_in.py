"""What the stand-in itself claims: states and their times, which verb is refused when, what is billed and how long."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from tests.clouds.scaleway import FakeScaleway, Fault, machine_types

ZONE = "fr-par-2"
TOKEN = "22222222-2222-4222-8222-222222222222"


class Account:
    def __init__(self) -> None:
        self.now = datetime(2026, 10, 1, tzinfo=UTC)
        self.cloud = FakeScaleway(clock=lambda: self.now, secret_key=TOKEN)

    def ask(self, method: str, path: str, body: Any = None, *, api: str = "instance", token: str = TOKEN) -> Any:
        return requests.request(
            method,
            f"{self.cloud.url}/{api}/v1/zones/{ZONE}/{path}",
            json=body,
            headers={"X-Auth-Token": token},
            timeout=30,
        )

    def rent(self, **more: Any) -> str:
        volumes = {"0": {"volume_type": "sbs_volume", "size": 100 * 10**9}}
        answer = self.ask("POST", "servers", {"commercial_type": "L4-1-24G", "volumes": volumes, **more})
        return str(answer.json()["server"]["id"])

    def act(self, server_id: str, action: str) -> Any:
        return self.ask("POST", f"servers/{server_id}/action", {"action": action})

    def state(self, server_id: str) -> str:
        answer = self.ask("GET", f"servers/{server_id}")
        return str(answer.json()["server"]["state"]) if answer.ok else str(answer.json()["type"])

    def after(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def account() -> Iterator[Account]:
    account = Account()
    with account.cloud:
        yield account


def test_a_server_starts_runs_and_is_gone_each_in_its_time(account: Account) -> None:
    server_id = account.rent()
    states = [account.state(server_id)]

    account.act(server_id, "poweron")
    for seconds in (0, 5):
        account.after(seconds)
        states.append(account.state(server_id))
    account.act(server_id, "terminate")
    for seconds in (0, 5):
        account.after(seconds)
        states.append(account.state(server_id))

    assert states == ["stopped", "starting", "running", "stopping", "not_found"]


@pytest.mark.parametrize(
    ("actions", "verb", "status", "kind"),
    [
        ([], "terminate", 400, "precondition_failed"),
        ([], "DELETE", 204, ""),
        (["poweron"], "terminate", 409, "transient_state"),
        (["poweron"], "DELETE", 409, "transient_state"),
        (["poweron", "wait"], "terminate", 202, ""),
        (["poweron", "wait"], "DELETE", 400, "precondition_failed"),
        (["poweron", "wait", "stop_in_place", "wait"], "terminate", 202, ""),
        (["poweron", "wait", "stop_in_place", "wait"], "DELETE", 400, "precondition_failed"),
        (["poweron", "wait", "poweroff"], "terminate", 409, "transient_state"),
        (["poweron", "wait", "poweroff", "wait"], "DELETE", 204, ""),
    ],
)
def test_each_verb_ends_what_the_other_can_not(
    account: Account, actions: list[str], verb: str, status: int, kind: str
) -> None:
    server_id = account.rent()
    for action in actions:
        account.after(10) if action == "wait" else account.act(server_id, action)

    answer = account.ask("DELETE", f"servers/{server_id}") if verb == "DELETE" else account.act(server_id, verb)

    assert answer.status_code == status
    assert not kind or answer.json()["type"] == kind


def test_a_volume_outlives_its_server_and_can_be_deleted_a_moment_after(account: Account) -> None:
    account.ask("DELETE", f"servers/{account.rent()}")
    (volume,) = account.cloud.books.volumes

    first = account.ask("DELETE", f"volumes/{volume}", api="block")
    account.after(1)
    second = account.ask("DELETE", f"volumes/{volume}", api="block")
    third = account.ask("DELETE", f"volumes/{volume}", api="block")

    assert [first.json()["type"], second.status_code, third.json()["type"]] == ["precondition_failed", 204, "not_found"]


def test_the_bill_has_each_thing_from_its_making_to_its_end_to_the_second(account: Account) -> None:
    begin, server_id = account.now, account.rent()
    account.after(60)
    account.act(server_id, "poweron")
    account.after(3600)
    account.act(server_id, "terminate")
    account.after(3600)  # nobody looks when it ends

    lines = {line.kind: line for line in account.cloud.bill()}

    assert _seconds(lines["server"].since, begin) == 0
    assert _seconds(lines["server"].until, begin) == 3665
    assert _seconds(lines["ip"].since, begin) == 60
    assert _seconds(lines["ip"].until, begin) == 3665
    assert lines["volume"].until is None
    assert lines["server"].price_per_hour == Decimal("0.7875")
    assert lines["volume"].price_per_hour == Decimal("0.0118")
    assert lines["ip"].price_per_hour == Decimal("0.004")
    assert lines["server"].amount(account.now).quantize(Decimal("1e-6")) == Decimal("0.801719")


def test_a_server_that_is_switched_off_loses_its_dynamic_address_and_keeps_its_volume(account: Account) -> None:
    server_id = account.rent()
    account.act(server_id, "poweron")
    account.after(10)
    account.cloud.switch_off(server_id)
    account.after(10)

    assert account.state(server_id) == "stopped"
    assert {line.kind: line.until is None for line in account.cloud.bill()} == {
        "server": True,
        "volume": True,
        "ip": False,
    }


def test_a_server_without_a_dynamic_address_gets_none(account: Account) -> None:
    account.act(account.rent(dynamic_ip_required=False), "poweron")

    assert [line.kind for line in account.cloud.bill()] == ["server", "volume"]


@pytest.mark.parametrize(
    "volumes",
    [
        {"0": {"volume_type": "sbs_volume", "size": 0}},
        {"0": {"volume_type": "l_ssd", "size": 10**10}},
        {"1": {"volume_type": "scratch", "size": 10**12}},
        {"0": {"volume_type": "floppy"}},
    ],
)
def test_a_volume_that_the_type_can_not_have_is_refused(account: Account, volumes: Any) -> None:
    answer = account.ask("POST", "servers", {"commercial_type": "L4-1-24G", "volumes": volumes})

    assert (answer.status_code, answer.json()["type"]) == (400, "invalid_arguments")
    assert account.cloud.bill() == []


def test_it_answers_nobody_with_another_token(account: Account) -> None:
    answer = account.ask("GET", "servers", token="another")

    assert (answer.status_code, answer.json()["type"]) == (401, "denied_authentication")


def test_pages_have_at_most_a_hundred_and_fifty_by_themselves(account: Account) -> None:
    pages = [account.ask("GET", path) for path in ("products/servers", "products/servers?per_page=500")]

    assert [len(page.json()["servers"]) for page in pages] == [50, 100]
    assert {page.headers["X-Total-Count"] for page in pages} == {str(len(machine_types.in_zone(ZONE)))}
    assert len(machine_types.in_zone(ZONE)) > 100


def test_an_outage_meets_every_call_until_it_is_over(account: Account) -> None:
    account.cloud.faults.outage = Fault.THROTTLED
    down = [account.ask("GET", "servers") for _ in range(3)]
    account.cloud.faults.outage = None

    assert [(answer.status_code, answer.content) for answer in down] == [(429, b"")] * 3
    assert account.ask("GET", "servers").ok


def test_it_can_be_started_by_itself() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.clouds.scaleway", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found is not None
        assert requests.get(f"{found[0]}/instance/v1/zones/{ZONE}/servers", timeout=30).json() == {"servers": []}
    finally:
        process.kill()
        process.wait()


def _seconds(instant: datetime | None, begin: datetime) -> int:
    assert instant is not None
    return round((instant - begin).total_seconds())
