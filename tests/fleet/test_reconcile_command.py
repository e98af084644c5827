"""`manage.py reconcile`: an orchestrator without a broker, on the mock cloud."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from catalog.seed import seed
from fleet import commands
from fleet.commands import DeploymentOrder
from fleet.models import Leak, Rental, Sweep
from fleet.providers.base import Location, ServerSpec
from fleet.providers.mock.chaos import Chaos
from fleet.providers.mock.provider import MockProvider
from fleet.states import Status
from tests.fleet.stage import OPERATOR

pytestmark = pytest.mark.django_db

HERE = Location("mock-eu", "mock-eu-1")
ELSEWHERE = Location("mock-us", "mock-us-1")


@pytest.fixture(autouse=True)
def cloud(tmp_path: Path, settings: Any) -> MockProvider:
    seed(only=["mock"])
    settings.PROVIDER_OPTIONS = {"mock": {"home": tmp_path}}
    settings.RECONCILE_GRACE = 0
    return MockProvider(tmp_path)


def stray(cloud: MockProvider, at: Location = HERE) -> str:
    """A machine with our tags, switched off, that no row knows."""
    spec = ServerSpec(
        attempt_id=str(uuid.uuid4()),
        instance_id=str(uuid.uuid4()),
        location=at,
        instance_type="MOCK-L4-1-24G",
        root_volume_gb=80,
        user_data="",
        owner=project.INSTALLATION,
    )
    return cloud.ensure_server(spec).handle.server_id


def servers(cloud: MockProvider) -> int:
    return sum(len(cloud.list_owned(where, project.INSTALLATION).servers) for where in cloud.locations())


def reconcile(*words: str) -> tuple[int, str]:
    """Exit code and output."""
    out = StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("reconcile", *words, stdout=out)
    return int(end.value.code or 0), out.getvalue()


def test_with_nothing_to_do_it_says_so_for_each_place() -> None:
    code, out = reconcile()

    header, *lines = out.splitlines()
    assert code == 0
    assert header.split()[:4] == ["PLACE", "SERVERS", "LEAKING", "ENDED"]
    assert [line.split() for line in lines] == [
        ["mock", zone, "0", "0", "0", "0", "whole"] for zone in ("mock-eu-1", "mock-eu-2", "mock-us-1")
    ]


def test_it_destroys_what_nobody_claims(cloud: MockProvider) -> None:
    server = stray(cloud)

    code, out = reconcile()

    assert code == 0
    assert servers(cloud) == 0
    assert Rental.objects.get(resource_id=server).until is not None
    assert out.splitlines()[1].split() == ["mock", "mock-eu-1", "1", "0", "1", "0", "whole"]


def test_within_the_grace_it_leaks_and_the_exit_code_says_so(cloud: MockProvider, settings: Any) -> None:
    settings.RECONCILE_GRACE = 30
    stray(cloud)

    code, _ = reconcile()

    assert code == 1
    assert servers(cloud) == 1


def test_a_dry_run_says_what_it_would_do_and_does_nothing(cloud: MockProvider) -> None:
    server = stray(cloud)

    code, out = reconcile("--dry-run")

    assert code == 1
    assert f"server {server}: would be destroyed after the grace: there is no attempt" in out
    assert servers(cloud) == 1
    assert (Leak.objects.count(), Rental.objects.count(), Sweep.objects.count()) == (0, 0, 0)


def test_a_listing_that_failed_is_told_and_fails_the_command(cloud: MockProvider) -> None:
    with cloud.store.transaction() as books:
        Chaos(books).set("auth_failure", "1")

    code, out = reconcile()

    assert code == 1
    assert "auth: the mock cloud does not accept these credentials" in out


def test_it_takes_the_due_steps_of_instances_without_any_message() -> None:
    seed()
    order = DeploymentOrder("Qwen/Qwen2.5-0.5B-Instruct")
    instance = commands.request_deployment(order, actor=OPERATOR, now=timezone.now()).deployments.get().instance
    commands.request_termination(instance.pk, actor=OPERATOR, reason="done", now=timezone.now())

    reconcile()

    instance.refresh_from_db()
    assert instance.status == Status.TERMINATED


def test_the_brake_holds_until_somebody_approves(cloud: MockProvider, settings: Any) -> None:
    settings.RECONCILE_MAX_DESTROYS = 1
    for _ in range(2):
        stray(cloud)

    code, out = reconcile()
    assert code == 1
    assert servers(cloud) == 2
    assert out.splitlines()[1].split() == ["mock", "mock-eu-1", "2", "2", "0", "2", "whole"]

    Leak.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    code, out = reconcile("--approve")
    assert out.splitlines()[0] == "Approved: 2."
    assert servers(cloud) == 0
    assert {leak.approved_by for leak in Leak.objects.all()} == {"manage.py reconcile --approve"}


def test_an_approval_is_not_for_what_the_same_pass_finds(cloud: MockProvider, settings: Any) -> None:
    settings.RECONCILE_MAX_DESTROYS = 1
    for _ in range(2):
        stray(cloud)

    _, out = reconcile("--approve")

    assert out.splitlines()[0] == "Approved: 0."
    assert servers(cloud) == 2


def test_only_the_places_that_are_asked_for_are_swept(cloud: MockProvider) -> None:
    stray(cloud)
    stray(cloud, at=ELSEWHERE)

    _, out = reconcile("--zone", "mock-us-1", "--provider", "mock")

    assert len(out.splitlines()) == 2
    assert servers(cloud) == 1


def test_a_loop_ends_between_two_steps_when_it_is_told_to(cloud: MockProvider) -> None:
    """SIGTERM comes in the middle of the first sweep: that one is ended, the others are left for another day."""
    with connection.execute_wrapper(_when('UPDATE "sweeps" SET "swept_at"', _terminate)):
        code, _ = reconcile("--loop")

    assert code == 1
    assert Sweep.objects.exclude(swept_at=None).count() == 1
    assert Sweep.objects.filter(lock_token=None).count() == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_loop_goes_on_with_what_is_due(cloud: MockProvider, settings: Any) -> None:
    settings.RECONCILE_EVERY = 0
    swept: list[str] = []

    def later(sql: str) -> None:
        swept.append(sql)
        if len(swept) == 3:
            stray(cloud)
        if len(swept) > 9:
            _terminate(sql)

    with connection.execute_wrapper(_when('UPDATE "sweeps" SET "swept_at"', later)):
        reconcile("--loop", "--every", "0.01")

    assert servers(cloud) == 0
    assert Leak.objects.filter(ended_at=None).count() == 0


def _when(statement: str, act: Callable[[str], None]) -> Callable[..., Any]:
    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(statement):
            act(sql)
        return execute(sql, params, many, context)

    return wrapper


def _terminate(_: str) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
