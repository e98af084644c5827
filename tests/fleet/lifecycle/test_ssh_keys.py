from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.models import Provider, SshKey
from fleet import commands
from fleet.models import Instance
from fleet.providers.base import AmbiguousOutcome, AuthError, InvalidSpec, ProviderError, Throttled
from fleet.states import Status
from tests.fleet.account_rows import account
from tests.fleet.stage import Stage


def key(name: str, *, provider: str = "mock", size: int = 68) -> SshKey:
    return SshKey.objects.create(
        provider=Provider.objects.get_or_create(name=provider)[0],
        name=name,
        public_key=f"ssh-ed25519 {name.ljust(size, 'A')} {name}",
    )


def told(stage: Stage) -> Any:
    """What the cloud-init of the newest machine says of keys."""
    (_, text) = stage.cloud.user_data.popitem()
    return json.loads(text.removeprefix("#cloud-config\n")).get("ssh_authorized_keys", [])


def test_a_machine_takes_the_keys_of_its_provider_whatever_its_image_is(stage: Stage) -> None:
    ana, bob = key("ana"), key("bob")
    key("eve", provider="scaleway")

    stage.step(stage.deploy())

    assert told(stage) == [ana.public_key, bob.public_key]


def test_without_keys_nobody_is_let_in(stage: Stage) -> None:
    stage.step(stage.deploy())

    assert told(stage) == []
    assert stage.cloud.specs[0].ssh_key_ids == ()


def test_keys_are_registered_at_the_provider_before_the_machine_is_made(stage: Stage) -> None:
    ana, bob = key("ana"), key("bob")

    stage.step(stage.deploy())

    assert stage.cloud.ssh_keys == {ana.public_key: "key-1", bob.public_key: "key-2"}
    assert stage.cloud.specs[0].ssh_key_ids == ("key-1", "key-2")
    assert list(SshKey.objects.order_by("name").values_list("provider_key_id", flat=True)) == ["key-1", "key-2"]


def test_a_key_that_was_deleted_at_the_provider_is_registered_again(stage: Stage) -> None:
    ana = key("ana")
    SshKey.objects.update(provider_key_id="deleted-there")

    stage.step(stage.deploy())

    ana.refresh_from_db()
    assert stage.cloud.specs[0].ssh_key_ids == ("key-1",)
    assert ana.provider_key_id == "key-1"


def test_the_column_speaks_of_the_home_account_and_the_machine_gets_the_id_of_its_own(
    stage: Stage, settings: Any
) -> None:
    ana = key("ana")
    SshKey.objects.update(provider_key_id="id-in-the-first")
    account("first", is_active=False), account("second")
    settings.PROVIDER_OPTIONS = {}

    stage.step(stage.deploy())

    ana.refresh_from_db()
    assert stage.cloud.specs[0].ssh_key_ids == ("key-1",)
    assert ana.provider_key_id == "id-in-the-first"


def test_removing_the_home_account_forgets_the_ids_that_held_there(stage: Stage, settings: Any) -> None:
    key("ana")
    first, second = account("first"), account("second")
    settings.PROVIDER_OPTIONS = {}
    SshKey.objects.update(provider_key_id="id-in-the-first")

    commands.remove_account(second.pk)
    assert SshKey.objects.get().provider_key_id == "id-in-the-first"

    commands.remove_account(first.pk)
    assert SshKey.objects.get().provider_key_id is None


@pytest.mark.parametrize("error", [AuthError("may not"), InvalidSpec("not this kind"), Throttled("slow down")])
def test_a_key_that_cannot_be_registered_stops_no_launch(
    stage: Stage, error: ProviderError, caplog: pytest.LogCaptureFixture
) -> None:
    ana = key("ana")
    stage.cloud.fail_next("ensure_ssh_key", error)

    instance = stage.step(stage.deploy())

    assert instance.status == Status.BOOTING
    assert told(stage) == [ana.public_key]
    assert "SSH key ana is not registered at mock" in caplog.text
    assert SshKey.objects.get().provider_key_id is None


@pytest.mark.parametrize(
    ("error", "ids"), [(InvalidSpec("not this kind"), ("key-1",)), (AmbiguousOutcome("no answer"), ())]
)
def test_one_bad_key_does_not_keep_the_next_from_being_registered_but_a_silent_provider_does(
    stage: Stage, error: ProviderError, ids: tuple[str, ...]
) -> None:
    key("bad"), key("good")
    stage.cloud.fail_next("ensure_ssh_key", error)

    stage.step(stage.deploy())

    assert stage.cloud.specs[0].ssh_key_ids == ids


def test_keys_that_come_and_go_between_two_retries_change_nothing_of_what_the_machine_is_told(stage: Stage) -> None:
    ana = key("ana")
    stage.cloud.fail_next("ensure_server", AmbiguousOutcome("connection reset"))
    instance = stage.step(stage.deploy())

    key("late")
    ana.delete()
    stage.clock.forward(seconds=5)
    stage.step(instance)

    first, second = stage.cloud.specs
    assert first.user_data == second.user_data
    assert ana.public_key in second.user_data
    assert instance.status == Status.BOOTING


def test_more_keys_than_user_data_takes_are_refused_with_what_to_do(stage: Stage) -> None:
    for number in range(20):
        key(f"key{number}", size=900)

    instance: Instance = stage.step(stage.deploy())

    assert stage.cloud.created == []
    assert instance.status == Status.FAILED
    assert "a machine takes 16384; 20 SSH keys are in it: keep fewer" in instance.status_reason
