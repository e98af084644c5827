"""The mock provider's driver: the claims of every provider, and some of its own."""

from __future__ import annotations

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from django.conf import settings

from fleet.providers import registry
from fleet.providers.base import ABSENT, CapacityError, Provider, ServerSpec, ServerState, Throttled, Unavailable
from fleet.providers.mock import machine, power
from fleet.providers.mock.bill import bill
from fleet.providers.mock.chaos import BadSetting
from fleet.providers.mock.provider import MockProvider
from fleet.providers.mock.store import Store
from tests.fleet.providers.conformance import ProviderConformance, a_spec, destroy, look, started
from tests.fleet.providers.conftest import MockCloud
from tests.fleet.providers.waiting import eventually


class TestMockProvider(ProviderConformance):
    pass


def _ensure(home: Path, spec: ServerSpec) -> str:
    return MockProvider(home).ensure_server(spec).handle.server_id


def _start(home: Path, spec: ServerSpec) -> None:
    provider = MockProvider(home)
    provider.start(provider.ensure_server(spec).handle)


def test_it_is_a_provider(cloud: MockCloud) -> None:
    provider: Provider = cloud.driver()

    assert provider.list_offers(cloud.location)


def test_the_registry_builds_it_at_home_where_the_settings_say() -> None:
    driver = registry.build("mock", **settings.PROVIDER_OPTIONS["mock"])

    assert isinstance(driver, MockProvider)
    assert driver.home == settings.MOCK_HOME


def test_it_makes_one_server_for_an_attempt_asked_for_by_many_processes(cloud: MockCloud) -> None:
    spec = a_spec(cloud)

    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        ids = {future.result() for future in [pool.submit(_ensure, cloud.home, spec) for _ in range(9)]}

    assert len(ids) == 1
    assert cloud.billed() == 1


def test_it_starts_one_machine_however_many_processes_start_it(cloud: MockCloud) -> None:
    spec = a_spec(cloud)
    server_id = _ensure(cloud.home, spec)

    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(_start, cloud.home, spec) for _ in range(6)]:
            future.result()

    assert len(machine.processes(server_id)) == 1


def test_its_machine_outlives_the_process_that_started_it_and_is_nobodys_child(cloud: MockCloud) -> None:
    spec = a_spec(cloud)
    view = cloud.driver().ensure_server(spec)
    code = (
        "import sys; from pathlib import Path; from fleet.providers.mock.provider import MockProvider;"
        "from fleet.providers.base import Handle, Location;"
        "MockProvider(Path(sys.argv[1])).start(Handle(sys.argv[2], Location('mock-eu', 'mock-eu-1')))"
    )

    starter = subprocess.run([sys.executable, "-c", code, str(cloud.home), view.handle.server_id], check=True)

    assert starter.returncode == 0
    (pid,) = machine.processes(view.handle.server_id)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, group, session = (int(field) for field in fields[1:4])
    assert parent != multiprocessing.current_process().pid
    assert (group, session) == (pid, pid)


def test_a_machine_whose_start_was_not_noted_ends_at_once(cloud: MockCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    code = (
        "import os, sys; from datetime import UTC, datetime; from pathlib import Path;"
        "from fleet.providers.mock import machine; from fleet.providers.mock.store import Store\n"
        "home = Path(sys.argv[1])\n"
        "with Store(home).transaction() as books:\n"
        "    machine.start(books, books.server(sys.argv[2]), home=home, now=datetime.now(UTC))\n"
        "    assert machine.processes(sys.argv[2])\n"
        "    os.kill(os.getpid(), 9)\n"  # between the start and the commit
    )

    starter = subprocess.run([sys.executable, "-c", code, str(cloud.home), view.handle.server_id], check=False)

    assert starter.returncode == -signal.SIGKILL
    eventually(lambda: not machine.processes(view.handle.server_id))
    assert look(cloud, view.handle).state is ServerState.STOPPED
    assert started(cloud, view).state is ServerState.RUNNING


def test_its_machines_see_nothing_of_our_environment(cloud: MockCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    for pid in machine.processes(view.handle.server_id):
        assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_machine_that_died_is_stopped_and_bills_on(cloud: MockCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    power.kill(cloud.home, view.handle.server_id)

    eventually(lambda: look(cloud, view.handle).state is ServerState.STOPPED)
    assert cloud.billed() == 1


def test_it_is_not_fooled_by_a_process_id_that_is_used_again(cloud: MockCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    with Store(cloud.home).transaction() as books:
        server = books.server(view.handle.server_id)
        assert server is not None
        machine.send(server, signal.SIGKILL)
        pid = multiprocessing.current_process().pid  # as if our own process had got the machine's number
        books.change(server, pid=pid)

    assert look(cloud, view.handle).state is ServerState.STOPPED
    eventually(lambda: not machine.processes(view.handle.server_id))
    with pytest.raises(LookupError):
        power.kill(cloud.home, view.handle.server_id)
    destroy(cloud, view.handle)


def test_a_started_machine_is_starting_for_a_while_and_has_no_address_yet(cloud: MockCloud) -> None:
    cloud.chaos("start_seconds", "30")
    view = cloud.driver().ensure_server(a_spec(cloud))
    assert view.state is ServerState.STOPPED

    cloud.driver().start(view.handle)
    starting = look(cloud, view.handle)
    cloud.pass_time(31)
    running = look(cloud, view.handle)

    assert (starting.state, starting.ip_address) == (ServerState.STARTING, None)
    assert running.state is ServerState.RUNNING
    assert running.ip_address is not None
    assert running.ip_address.startswith("127.77.")


def test_destroying_leaves_neither_process_nor_file(cloud: MockCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    files = machine.directory(cloud.home, view.handle.server_id)
    eventually((files / "console.log").exists)

    destroy(cloud, view.handle)

    assert machine.processes(view.handle.server_id) == []
    assert not files.exists()


@pytest.mark.parametrize("places", ["*", "MOCK-L4-1-24G", "@mock-eu-1", "MOCK-H100-1-80G, MOCK-L4-1-24G@mock-eu-1"])
def test_a_stockout_covers_types_zones_or_both(cloud: MockCloud, places: str) -> None:
    cloud.chaos("stockout", places)

    with pytest.raises(CapacityError):
        cloud.driver().ensure_server(a_spec(cloud))


def test_a_stockout_elsewhere_changes_nothing(cloud: MockCloud) -> None:
    cloud.chaos("stockout", "@mock-eu-2,MOCK-L4-2-24G,MOCK-L4-1-24G@mock-us-1")

    assert cloud.driver().ensure_server(a_spec(cloud))


def test_a_fault_that_is_counted_strikes_so_often_and_every_driver_counts(cloud: MockCloud) -> None:
    cloud.chaos("unavailable", "2")

    for _ in range(2):
        with pytest.raises(Unavailable):
            cloud.driver().list_offers(cloud.location)
    assert cloud.driver().list_offers(cloud.location)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("no_such_fault", "on"),
        ("stockout", "L5"),
        ("stockout", "@mock-eu-9"),
        ("stockout", "@"),
        ("quota", "perhaps"),
        ("boot_seconds", "-1"),
        ("tokens_per_second", "0"),
        ("machines", "imaginary"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(cloud: MockCloud, name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=r"no setting|neither|not a number|never end|none of"):
        cloud.chaos(name, value)


def test_the_bill_counts_from_creation_to_deletion_whether_it_runs_or_not(cloud: MockCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.pass_time(2 * 3600)
    running = bill(Store(cloud.home), now=cloud.now)
    assert cloud.driver().destroy_step(view.handle).is_complete
    cloud.pass_time(3600)
    ended = bill(Store(cloud.home), now=cloud.now)

    assert running.total == ended.total == {"EUR": Decimal("1.575")}
    assert running.per_hour == {"EUR": Decimal("0.7875")}
    assert ended.per_hour == {}


def test_a_power_cut_stops_all_and_what_ran_comes_back_at_its_address(cloud: MockCloud) -> None:
    ran = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    never_started = cloud.driver().ensure_server(a_spec(cloud))
    died = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    power.kill(cloud.home, died.handle.server_id)
    eventually(lambda: look(cloud, died.handle).state is ServerState.STOPPED)

    assert power.suspend(cloud.home) == 1
    assert look(cloud, ran.handle).state is ServerState.STOPPED
    assert power.resume(cloud.home, now=cloud.now) == 1
    cloud.pass_time(1)

    assert look(cloud, ran.handle).ip_address == ran.ip_address
    assert look(cloud, never_started.handle).state is ServerState.STOPPED
    assert look(cloud, died.handle).state is ServerState.STOPPED
    assert power.resume(cloud.home, now=cloud.now) == 0


def test_a_wipe_leaves_nothing(cloud: MockCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    assert power.wipe(cloud.home) == 1

    assert machine.processes(view.handle.server_id) == []
    assert bill(Store(cloud.home), now=cloud.now).lines == ()


def test_books_that_are_kept_for_too_long_are_unavailable_and_unchanged(
    cloud: MockCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.providers.mock.store._WAIT_FOR_LOCK", 0.05)
    cloud.driver().list_offers(cloud.location)
    other = sqlite3.connect(cloud.home / "cloud.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable):
        cloud.driver().ensure_server(a_spec(cloud))

    other.close()
    assert cloud.billed() == 0


def test_a_spot_machine_costs_what_its_offer_says(cloud: MockCloud) -> None:
    spec = replace(a_spec(cloud), spot=True)
    offers = cloud.driver().list_offers(cloud.location)
    (offer,) = [offer for offer in offers if offer.instance_type == spec.instance_type]

    cloud.driver().ensure_server(spec)

    (line,) = bill(Store(cloud.home), now=cloud.now).lines
    assert offer.price_per_hour is not None
    assert line.price_per_hour == offer.spot_price_per_hour == offer.price_per_hour * Decimal("0.4")


def test_calls_beyond_its_limit_are_throttled_and_counted_whoever_makes_them(cloud: MockCloud) -> None:
    cloud.chaos("calls_per_second", "2")

    for _ in range(2):
        assert cloud.driver().list_offers(cloud.location)
    for _ in range(3):
        with pytest.raises(Throttled):
            cloud.driver().list_offers(cloud.location)
    cloud.pass_time(1)
    assert cloud.driver().list_offers(cloud.location)

    with Store(cloud.home).transaction() as books:
        assert [(calls.allowed, calls.throttled) for calls in books.calls()] == [(2, 3), (1, 0)]


def test_a_simulated_machine_runs_by_the_books_and_has_no_process(cloud: MockCloud) -> None:
    cloud.chaos("machines", "simulated")

    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    assert look(cloud, view.handle).state is ServerState.RUNNING
    assert machine.processes(view.handle.server_id) == []
    assert cloud.driver().destroy_step(view.handle).is_complete
    assert cloud.driver().get(view.handle) is ABSENT


def test_books_of_an_earlier_version_are_brought_up_to_date(cloud: MockCloud) -> None:
    server = cloud.driver().ensure_server(a_spec(cloud)).handle.server_id
    with closing(sqlite3.connect(cloud.home / "cloud.sqlite3")) as books:
        books.executescript("DROP TABLE calls; PRAGMA user_version = 1;")

    cloud.chaos("calls_per_second", "1")

    assert cloud.driver().list_offers(cloud.location)
    assert cloud.has_server(server)
