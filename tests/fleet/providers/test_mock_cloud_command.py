"""`manage.py mock_cloud`: the mock cloud from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from fleet.providers.base import CapacityError, ServerState
from fleet.providers.mock import machine
from fleet.providers.mock.chaos import SETTINGS
from tests.fleet.providers.conformance import a_spec, look, started
from tests.fleet.providers.conftest import MockCloud
from tests.fleet.providers.waiting import eventually


@pytest.fixture(autouse=True)
def _home(cloud: MockCloud, settings: Settings) -> None:
    settings.MOCK_HOME = cloud.home


def mock_cloud(*words: str) -> str:
    out = StringIO()
    call_command("mock_cloud", *words, stdout=out)
    return out.getvalue()


def test_ls_shows_what_exists_as_a_table_and_as_json(cloud: MockCloud) -> None:
    assert "nothing" in mock_cloud("ls")
    spec = a_spec(cloud)
    view = started(cloud, cloud.driver().ensure_server(spec))

    (row,) = json.loads(mock_cloud("ls", "--json"))

    assert row["id"] == view.handle.server_id
    assert (row["instance_id"], row["state"], row["address"]) == (spec.instance_id, "on", view.ip_address)
    header, line = mock_cloud("ls").splitlines()
    assert header.split()[:2] == ["id", "instance_id"]
    assert line.split()[0] == view.handle.server_id


def test_bill_shows_what_was_spent_and_what_an_hour_costs(cloud: MockCloud) -> None:
    cloud.driver().ensure_server(a_spec(cloud))

    account = json.loads(mock_cloud("bill", "--json"))

    assert account["per_hour"] == {"EUR": "0.787500"}
    assert [line["until"] for line in account["lines"]] == [None]
    assert "per hour: 0.787500 EUR" in mock_cloud("bill")


def test_what_the_settings_show_can_be_set(cloud: MockCloud) -> None:
    mock_cloud("chaos", "set", "stockout", "*")

    mock_cloud("chaos", "set", "stockout", "none")

    assert cloud.driver().ensure_server(a_spec(cloud))


def test_chaos_is_set_shown_and_cleared(cloud: MockCloud) -> None:
    assert "<- set" in mock_cloud("chaos", "set", "stockout", "*")
    with pytest.raises(CapacityError):
        cloud.driver().ensure_server(a_spec(cloud))

    assert "<- set" not in mock_cloud("chaos", "clear")

    assert cloud.driver().ensure_server(a_spec(cloud))
    assert "tokens_per_second" in mock_cloud("chaos")


def test_a_setting_with_a_bad_value_is_refused_and_told_why() -> None:
    with pytest.raises(CommandError, match="neither on, off nor a number"):
        mock_cloud("chaos", "set", "quota", "perhaps")


def test_a_machine_is_killed_frozen_and_thawed_by_the_beginning_of_its_id_or_its_instances(cloud: MockCloud) -> None:
    spec = a_spec(cloud)
    view = started(cloud, cloud.driver().ensure_server(spec))

    mock_cloud("freeze", view.handle.server_id[:20])
    eventually(lambda: json.loads(mock_cloud("ls", "--json"))[0]["state"] == "frozen")
    mock_cloud("thaw", spec.instance_id)
    eventually(lambda: json.loads(mock_cloud("ls", "--json"))[0]["state"] == "on")
    mock_cloud("kill", spec.instance_id[:12])
    eventually(lambda: look(cloud, view.handle).state is ServerState.STOPPED)


def test_only_a_running_spot_machine_is_told_that_it_is_taken_back(cloud: MockCloud) -> None:
    usual, spot = a_spec(cloud), replace(a_spec(cloud), spot=True)
    for spec in (usual, spot):
        cloud.driver().ensure_server(spec)

    with pytest.raises(CommandError, match="no spot machine"):
        mock_cloud("interrupt", usual.instance_id)
    with pytest.raises(CommandError, match="not running"):
        mock_cloud("interrupt", spot.instance_id)
    started(cloud, cloud.driver().ensure_server(spot))
    assert "is taken back at" in mock_cloud("interrupt", spot.instance_id)


def test_a_name_that_fits_no_server_or_several_is_refused(cloud: MockCloud) -> None:
    cloud.driver().ensure_server(a_spec(cloud))
    cloud.driver().ensure_server(a_spec(cloud))

    with pytest.raises(CommandError, match="no servers"):
        mock_cloud("kill", "nothing-like-it")
    with pytest.raises(CommandError, match="2 servers"):
        mock_cloud("kill", "mock-")


def test_suspend_resume_and_wipe(cloud: MockCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    assert "1" in mock_cloud("suspend")
    assert json.loads(mock_cloud("ls", "--json"))[0]["state"] == "suspended"
    assert "1" in mock_cloud("resume")
    assert machine.processes(view.handle.server_id)
    assert "1" in mock_cloud("wipe")
    assert machine.processes(view.handle.server_id) == []
    assert json.loads(mock_cloud("ls", "--json")) == []


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        mock_cloud("chaos", "--help")

    text = capsys.readouterr().out
    assert all(name in text for name in SETTINGS)
