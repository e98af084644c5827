from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from catalog.models import Provider, Region, Zone
from fleet.models import Instance
from fleet.providers import registry
from fleet.providers.base import AuthError, Finding, Location, Unavailable, Verdict
from fleet.states import Status
from tests.fleet import talkative_driver
from tests.fleet.account_rows import CANARY, SCALEWAY, account, seal_with_a_lost_key
from tests.fleet.admin import rows

pytestmark = pytest.mark.django_db

WORKS = Finding("permission to create servers", Verdict.WORKS, "granted")
OTHER_KEY = "0e0e0e0e-1111-4222-8333-444444444444"


@pytest.fixture(autouse=True)
def scaleway(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """Two zones, an account of the settings, and a control plane that is ready for real machines."""
    provider = Provider.objects.create(name="scaleway")
    region = Region.objects.create(provider=provider, name="fr-par")
    for name in ("fr-par-1", "fr-par-2"):
        Zone.objects.create(region=region, name=name)
    settings.ENABLED_PROVIDERS = ["mock", "scaleway"]
    settings.PROVIDER_COMMON = {"scaleway": {"api_url": "https://api.test", "image": ""}}
    ours = {**SCALEWAY, "api_url": "https://api.test", "image": ""}
    settings.PROVIDER_OPTIONS = {**settings.PROVIDER_OPTIONS, "scaleway": ours}
    settings.CONTROL_PLANE_URL, settings.ROUTER_URL = "https://control.example.org", "https://router.example.org"
    settings.ROUTER_CIDRS, settings.SSH_CIDRS = ["203.0.113.7/32"], []
    monkeypatch.setitem(registry.DRIVERS, "scaleway", "tests.fleet.talkative_driver:build")
    talkative_driver.answer(lambda key, location: [WORKS])
    return provider


def run(*arguments: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    out = StringIO()
    try:
        call_command("check_provider", *arguments, stdout=out)
    except SystemExit as ending:
        return int(ending.code or 0), out.getvalue()
    return 0, out.getvalue()


def findings(*arguments: str) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(run("scaleway", "--json", *arguments)[1])["findings"]
    return listed


def verdict_of(subject: str) -> str:
    (verdict,) = [row["verdict"] for row in findings() if row["subject"] == subject]
    return verdict


def raising(error: Exception) -> Callable[[str, Location], Sequence[Finding]]:
    def answer(key: str, location: Location) -> Sequence[Finding]:
        raise error

    return answer


def test_all_that_works_is_listed_for_each_account_and_zone_and_nothing_is_missing() -> None:
    account(provider="scaleway")

    code, text = run("scaleway")

    asked = [(row["account"], row["zone"]) for row in findings() if row["subject"] == WORKS.subject]
    assert asked == [(who, zone) for who in ("settings", "research") for zone in ("fr-par-1", "fr-par-2")]
    assert code == 0
    assert "Nothing is missing. Nothing was rented." in text


def test_what_is_missing_is_said_with_what_to_do_and_fails_the_command() -> None:
    missing = Finding("quota of L4-1-24G", Verdict.MISSING, "0 of 0: ask Scaleway's support for more")
    talkative_driver.answer(lambda key, location: [WORKS, missing])

    code, text = run("scaleway", "--zone", "fr-par-2")

    (line,) = [line for line in text.splitlines() if "quota" in line]
    assert line.split() == ["settings", "fr-par-2", "MISSING", *missing.subject.split(), *missing.detail.split()]
    assert "1 missing" in text
    assert code == 1


def test_what_could_not_be_found_out_is_said_and_fails_nothing() -> None:
    talkative_driver.answer(lambda key, location: [Finding("quota", Verdict.UNCLEAR, "not told before renting")])

    code, text = run("scaleway", "--zone", "fr-par-2")

    assert code == 0
    assert "1 could not be found out" in text


def test_one_account_can_be_asked_alone() -> None:
    account(provider="scaleway")

    assert {row["account"] for row in findings("--account", "research")} == {"-", "research"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nimbus"], "no provider 'nimbus'; there are: aws, mock, scaleway"),
        (["scaleway", "--zone", "mars"], "no zone 'mars'; there are: fr-par-1, fr-par-2"),
        (["scaleway", "--account", "nobody"], "no account 'nobody'; there are: settings"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_those_that_are(arguments: list[str], says: str) -> None:
    with pytest.raises(CommandError) as refused:
        run(*arguments)

    assert refused.value.returncode == 2
    assert says in str(refused.value)


def test_wrong_credentials_are_missing_and_an_api_that_does_not_answer_is_unclear() -> None:
    talkative_driver.answer(raising(AuthError("Scaleway does not know this key: make a new one")))
    assert [row["verdict"] for row in findings() if "make a new one" in row["detail"]] == ["missing"] * 2

    talkative_driver.answer(raising(Unavailable("no route to api.test")))
    assert [row["verdict"] for row in findings() if "no route" in row["detail"]] == ["unclear"] * 2


def test_an_answer_that_the_driver_cannot_read_is_no_traceback_and_repeats_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    talkative_driver.answer(raising(ValueError(f"unreadable: {CANARY}")))

    code, text = run("scaleway")

    assert code == 0
    assert "failed with ValueError" in text
    shown = text + "".join(capfd.readouterr())
    assert CANARY not in shown
    assert "Traceback" not in shown


def test_an_account_whose_key_is_lost_is_missing_and_the_others_are_still_asked() -> None:
    seal_with_a_lost_key(account(provider="scaleway"))

    code, text = run("scaleway")

    assert code == 1
    assert "put the key that sealed them back into ENCRYPTION_KEYS" in text
    assert WORKS.subject in text


def test_each_account_is_asked_with_its_own_credentials(settings: Any) -> None:
    account(provider="scaleway")
    settings.PROVIDER_OPTIONS["scaleway"]["secret_key"] = OTHER_KEY
    asked: dict[str, str] = {}

    def remember(key: str, location: Location) -> Sequence[Finding]:
        asked[key] = location.region
        return []

    talkative_driver.answer(remember)
    run("scaleway")

    assert asked == {CANARY: "fr-par", OTHER_KEY: "fr-par"}


def test_no_account_at_all_says_what_to_set(settings: Any) -> None:
    settings.PROVIDER_OPTIONS = {}

    code, text = run("scaleway")

    assert code == 1
    assert "set SCW_ACCESS_KEY, SCW_SECRET_KEY and SCW_DEFAULT_PROJECT_ID, or add one in the admin" in text


def test_an_empty_catalogue_says_how_to_fill_it() -> None:
    Zone.objects.all().delete()

    assert verdict_of("zones") == "missing"


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("http://127.0.0.1:8003", "missing"),
        ("http://localhost:8003", "missing"),
        ("http://[::1]:8003", "missing"),
        ("http://0.0.0.0:8003", "missing"),
        ("http://10.1.2.3:8003", "unclear"),
        ("http://203.0.114.7:8003", "works"),
        ("https://control.example.org", "works"),
    ],
)
@pytest.mark.parametrize("setting", ["CONTROL_PLANE_URL", "ROUTER_URL"])
def test_an_address_that_a_rented_machine_cannot_reach_is_missing(
    setting: str, url: str, verdict: str, settings: Any
) -> None:
    setattr(settings, setting, url)

    assert verdict_of(setting) == verdict


def test_engines_that_nobody_may_call_are_missing(settings: Any) -> None:
    settings.ROUTER_CIDRS = []

    assert verdict_of("ROUTER_CIDRS") == "missing"


def test_a_provider_that_is_not_enabled_is_missing(settings: Any) -> None:
    settings.ENABLED_PROVIDERS = ["mock"]

    assert verdict_of("ENABLED_PROVIDERS") == "missing"


def test_a_live_engines_key_that_cannot_be_opened_is_missing() -> None:
    assert verdict_of("ENCRYPTION_KEYS") == "works"
    rows.catalogue()

    rows.instance_in(Status.READY)  # with a key that nobody sealed

    assert Instance.objects.live().count() == 1
    assert verdict_of("ENCRYPTION_KEYS") == "missing"


def test_the_mock_needs_no_address_and_no_firewall(settings: Any, tmp_path: Any) -> None:
    rows.catalogue()
    settings.PROVIDER_OPTIONS = {"mock": {"home": tmp_path}}
    settings.CONTROL_PLANE_URL, settings.ROUTER_CIDRS = "http://127.0.0.1:8003", []

    code, text = run("mock")

    assert "ROUTER_CIDRS" not in text
    assert "the mock cloud" in text
    assert code == 1  # it has no zone eu-1
