"""An account is forgotten only once nothing of it can cost money, whatever is launched at the same moment."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.db import connection

from fleet import commands
from fleet.commands import CommandRefused
from fleet.models import Attempt, Instance, Outcome, ProviderAccount, Rental
from fleet.providers.base import CapacityError
from fleet.states import Status
from tests.fleet.account_rows import account
from tests.fleet.providers.waiting import eventually
from tests.fleet.stage import OPERATOR, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def paying(stage: Stage, settings: Any) -> ProviderAccount:
    """The only account that machines can be rented from."""
    settings.PROVIDER_OPTIONS = {}
    return account()


def ended(stage: Stage) -> Instance:
    instance = stage.step(stage.deploy())
    commands.request_termination(instance.pk, actor=OPERATOR, reason="done", now=stage.clock(), drain=False)
    stage.step(instance, times=4)
    assert instance.status == Status.TERMINATED
    return instance


def test_what_it_paid_for_keeps_its_name(stage: Stage, paying: ProviderAccount) -> None:
    instance = ended(stage)

    assert commands.remove_account(paying.pk) == "research"

    attempt, rental = instance.attempts.get(), Rental.objects.first()
    assert rental is not None
    assert (attempt.account, attempt.account_name, attempt.account_in_words) == (None, "research", "research (removed)")
    assert (rental.account, rental.account_name) == (None, "research")
    assert not ProviderAccount.objects.exists()


def test_it_stays_while_a_machine_of_it_runs(stage: Stage, paying: ProviderAccount) -> None:
    instance = stage.step(stage.deploy())

    with pytest.raises(CommandRefused, match=f"terminate first what may run in it: instance {str(instance.pk)[:8]}"):
        commands.remove_account(paying.pk)

    assert instance.attempts.get().account == paying


def test_it_stays_while_a_create_is_unsettled(stage: Stage, paying: ProviderAccount) -> None:
    stage.cloud.lose_answers = 1
    stage.step(stage.deploy())

    with pytest.raises(CommandRefused):
        commands.remove_account(paying.pk)


def test_it_stays_while_a_disk_that_no_row_claims_is_billed(stage: Stage, paying: ProviderAccount) -> None:
    zone = ended(stage).zone
    Rental.objects.create(
        provider=paying.provider, account=paying, zone=zone, kind="volume", resource_id="vol-9", since=stage.clock()
    )

    with pytest.raises(CommandRefused, match="not said that they are gone: volume vol-9"):
        commands.remove_account(paying.pk)


def test_a_removed_accounts_tries_do_not_count_against_the_settings_own(stage: Stage, settings: Any) -> None:
    of_the_settings, settings.PROVIDER_OPTIONS = settings.PROVIDER_OPTIONS, {}
    row = account()
    stage.cloud.fail_next("ensure_server", CapacityError("none left"))
    instance = stage.step(stage.deploy())
    Attempt.objects.update(error_code="refused")  # not for want of stock, which counts in every account
    commands.remove_account(row.pk)
    settings.PROVIDER_OPTIONS = of_the_settings
    stage.cloud.faults.clear()
    stage.clock.forward(minutes=5)

    stage.step(instance)

    assert list(instance.attempts.values_list("zone__name", "account_name")) == [("eu-1", "research"), ("eu-1", "")]


# --- at the same moment ---------------------------------------------------------------------------------------------


def run_into(first: Callable[[], object], second: Callable[[], object], *, after: str) -> None:
    """Two connections: `first` stands still after the statement that starts so, until `second` waits for its lock."""
    reached, go_on = threading.Event(), threading.Event()

    def pause(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if sql.startswith(after):
            reached.set()
            go_on.wait(30)
        return result

    with in_a_thread(first, pause):
        assert reached.wait(30)
        with in_a_thread(second):
            eventually(somebody_waits)
            go_on.set()


@contextmanager
def in_a_thread(action: Callable[[], object], *wrappers: Any) -> Iterator[None]:
    def run() -> None:
        with ExitStack() as stack:
            stack.callback(connection.close)
            for wrapper in wrappers:
                stack.enter_context(connection.execute_wrapper(wrapper))
            action()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def removal(account_id: uuid.UUID, refusals: list[str]) -> Callable[[], None]:
    def remove() -> None:
        try:
            commands.remove_account(account_id)
        except CommandRefused as refusal:
            refusals.append(refusal.code)

    return remove


@pytest.mark.django_db(transaction=True)
def test_a_removal_waits_for_a_launch_and_is_then_refused(stage: Stage, paying: ProviderAccount) -> None:
    instance, refusals = stage.deploy(), list[str]()

    run_into(lambda: stage.step(instance), removal(paying.pk, refusals), after='INSERT INTO "attempts"')

    assert refusals == ["in_use"]
    assert instance.attempts.get().account == paying


@pytest.mark.django_db(transaction=True)
def test_a_launch_waits_for_a_removal_and_then_goes_without(stage: Stage, paying: ProviderAccount) -> None:
    instance, refusals = stage.deploy(), list[str]()

    run_into(removal(paying.pk, refusals), lambda: stage.step(instance), after='DELETE FROM "provider_accounts"')
    stage.step(instance)

    assert refusals == []
    assert not ProviderAccount.objects.exists()
    assert stage.cloud.created == []
    assert instance.status == Status.FAILED
    assert not instance.attempts.filter(outcome=Outcome.OPEN).exists()
