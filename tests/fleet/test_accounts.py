from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleet import accounts, commands
from fleet.accounts import AccountUnusable
from fleet.commands import CommandRefused, DeploymentOrder
from fleet.lifecycle.world import real_world
from fleet.models import Outcome
from fleet.providers.base import AmbiguousOutcome, AuthError
from fleet.states import Status
from tests.fleet.account_rows import CANARY, SCALEWAY, account, seal_with_a_lost_key
from tests.fleet.stage import OPERATOR, Stage


@pytest.mark.django_db
def test_the_settings_are_asked_first_and_then_the_others_by_name(settings: Any) -> None:
    zoe, bob = account("zoe"), account("bob")
    account("resting", is_active=False)

    assert accounts.usable("mock") == [None, bob.pk, zoe.pk]

    settings.PROVIDER_OPTIONS = {}
    assert accounts.usable("mock") == [bob.pk, zoe.pk]
    assert list(accounts.by_name("mock")) == ["bob", "resting", "zoe"]


@pytest.mark.django_db
def test_nothing_new_is_rented_from_a_provider_that_is_not_enabled_though_its_driver_can_still_be_built(
    settings: Any,
) -> None:
    row = account(provider="scaleway")
    settings.ENABLED_PROVIDERS = ["mock"]

    assert accounts.usable("scaleway") == []
    assert accounts.options("scaleway", row.pk)["secret_key"] == CANARY


@pytest.mark.django_db
def test_an_account_gets_what_is_common_and_nothing_of_the_settings_own_credentials(settings: Any) -> None:
    settings.PROVIDER_COMMON = {"scaleway": {"api_url": "https://api.test", "image": ""}}
    settings.PROVIDER_OPTIONS = {"scaleway": {"secret_key": "of the settings", "stray": "of the settings"}}
    row = account(provider="scaleway")

    assert accounts.options("scaleway", row.pk) == {"api_url": "https://api.test", "image": "", **SCALEWAY}


@pytest.mark.django_db
def test_its_credentials_are_sealed_at_rest() -> None:
    assert CANARY not in account(provider="scaleway").credentials


@pytest.mark.django_db
def test_credentials_whose_key_is_lost_are_never_passed_on(settings: Any) -> None:
    row = account(provider="scaleway")
    seal_with_a_lost_key(row)

    with pytest.raises(AccountUnusable, match=r"research can't be opened: put the key .* back"):
        accounts.options("scaleway", row.pk)


@pytest.mark.django_db
def test_machines_of_an_account_that_the_settings_no_longer_have_are_no_programming_error(settings: Any) -> None:
    settings.PROVIDER_OPTIONS = {}

    with pytest.raises(AuthError, match="set SCW_ACCESS_KEY, SCW_SECRET_KEY and SCW_DEFAULT_PROJECT_ID"):
        real_world().provider("scaleway", None)


def test_a_lost_key_stops_a_launch_with_an_alarm_and_no_loop(
    stage: Stage, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PROVIDER_OPTIONS = {}
    seal_with_a_lost_key(account())
    stage.world = replace(stage.world, provider=real_world().provider)

    instance = stage.step(stage.deploy(), times=2)

    assert stage.moves(instance) == [Status.PROVISIONING, Status.FAILED, Status.TERMINATED]
    assert "can't be opened" in instance.transitions.get(to_status=Status.FAILED).reason
    assert "ALARM" in caplog.text
    assert CANARY not in caplog.text


def test_a_lost_key_never_makes_a_machine_that_may_exist_look_gone(stage: Stage, settings: Any) -> None:
    settings.PROVIDER_OPTIONS = {}
    row = account()
    stage.cloud.lose_answers = 1
    instance = stage.step(stage.deploy())
    good, sealed = stage.world, row.credentials
    seal_with_a_lost_key(row)
    stage.world = replace(stage.world, provider=real_world().provider)

    stage.step(instance)
    for _ in range(5):
        stage.clock.forward(minutes=10)
        stage.step(instance)

    assert instance.status == Status.FAILED
    assert instance.attempts.get().outcome == Outcome.OPEN

    row.credentials = sealed
    row.save()
    stage.world = good
    stage.clock.forward(minutes=10)
    stage.step(instance, times=4)
    assert instance.status == Status.TERMINATED
    assert stage.cloud.servers == {}


def test_a_refusal_while_an_earlier_ask_is_unsettled_does_not_close_the_attempt(stage: Stage) -> None:
    stage.cloud.listing_lag = timedelta(seconds=120)
    stage.cloud.fail_next("ensure_server", AmbiguousOutcome("connection reset"))
    instance = stage.step(stage.deploy())
    stage.cloud.fail_next("find_attempt", AuthError("the key was revoked"))

    stage.step(instance)

    assert instance.status == Status.FAILED
    assert instance.attempts.get().outcome == Outcome.OPEN


@pytest.mark.django_db
def test_an_order_for_a_provider_without_an_account_is_refused_and_says_what_to_set(
    stage: Stage, settings: Any
) -> None:
    settings.PROVIDER_OPTIONS = {}

    plan = commands.plan_deployment(DeploymentOrder("acme/small"))
    with pytest.raises(CommandRefused) as refused:
        commands.request_deployment(DeploymentOrder("acme/small"), actor=OPERATOR, now=stage.clock())

    assert {row.code for row in plan.rejected} == {"no_account"}
    assert "there is no account at mock" in plan.rejected[0].reason
    assert refused.value.code == "nothing_fits"


def test_an_instance_whose_last_account_went_meanwhile_fails_and_says_so(stage: Stage, settings: Any) -> None:
    instance = stage.deploy()
    settings.PROVIDER_OPTIONS = {}

    stage.step(instance)

    assert instance.status == Status.FAILED
    assert "there is no account at mock that new machines may be rented from" in instance.status_reason


def test_an_account_that_is_switched_off_takes_no_new_machine_and_keeps_what_it_has(
    stage: Stage, settings: Any
) -> None:
    settings.PROVIDER_OPTIONS = {}
    row = account()
    running = stage.step(stage.deploy())
    waiting = stage.deploy()
    row.is_active = False
    row.save()

    stage.step(waiting)

    assert waiting.status == Status.FAILED
    assert running.attempts.get().account == row
    assert stage.step(running).status == Status.BOOTING
