"""The pages of the accounts: credentials go in, and never come out."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from catalog.models import Provider
from fleet import accounts
from fleet.models import Attempt, ProviderAccount
from inventiv.accounts.roles import Role
from tests.fleet.account_rows import CANARY, SCALEWAY, account, seal_with_a_lost_key
from tests.fleet.admin import rows

LIST, ADD = (reverse(f"admin:fleet_provideraccount_{page}") for page in ("changelist", "add"))
ANOTHER = "0e0e0e0e-1111-4222-8333-444444444444"


@pytest.fixture
def admin() -> Client:
    return rows.client_of(rows.user(Role.ADMIN))


@pytest.fixture
def scaleway() -> Provider:
    return Provider.objects.create(name="scaleway")


def page(name: str, row: ProviderAccount) -> str:
    return reverse(f"admin:fleet_provideraccount_{name}", args=[row.pk])


def filled(at: str, values: dict[str, str], **others: str) -> dict[str, str]:
    return {f"{at}_{name}": value for name, value in values.items()} | {"name": "research", **others}


def assert_saved(response: Any) -> None:
    assert response.status_code == 302, response.content.decode()


def test_an_admin_adds_an_account_and_its_credentials_are_sealed(admin: Client, scaleway: Provider) -> None:
    assert_saved(admin.post(ADD, filled("scaleway", SCALEWAY, provider=str(scaleway.pk), is_active="on")))

    row = ProviderAccount.objects.get()
    assert (row.provider, row.name, row.is_active) == (scaleway, "research", True)
    assert accounts.credentials(row.pk) == SCALEWAY
    assert CANARY not in row.credentials


def test_the_form_says_that_a_provider_is_not_enabled_and_how_to_check_it(admin: Client, scaleway: Provider) -> None:
    text = admin.get(ADD).content.decode()

    assert "ENABLED_PROVIDERS does not name the provider" in text
    assert "manage.py check_provider scaleway" in text


def test_the_form_offers_no_other_provider_to_add(admin: Client, scaleway: Provider) -> None:
    assert "add_id_provider" not in admin.get(ADD).content.decode()


def test_a_list_of_regions_is_kept_as_one(admin: Client) -> None:
    aws = Provider.objects.create(name="aws")
    given = {"access_key_id": "AKIAXXXXXXXXXXXXXXXX", "secret_access_key": "c" * 40, "regions": "eu-west-3, us-east-1"}

    assert_saved(admin.post(ADD, filled("aws", given, provider=str(aws.pk))))

    assert accounts.credentials(ProviderAccount.objects.get().pk) == {**given, "regions": ["eu-west-3", "us-east-1"]}


@pytest.mark.parametrize("name", SCALEWAY)
@pytest.mark.parametrize("value", ["", "not a key at all"])
def test_a_credential_that_is_missing_or_malformed_is_named(
    admin: Client, scaleway: Provider, name: str, value: str
) -> None:
    given = SCALEWAY | {name: value}

    response = admin.post(ADD, filled("scaleway", given, provider=str(scaleway.pk)))

    assert set(response.context["adminform"].form.errors) == {f"scaleway_{name}"}
    assert CANARY not in response.content.decode()
    assert not ProviderAccount.objects.exists()


def test_a_provider_without_credentials_can_have_no_account(admin: Client) -> None:
    mock = Provider.objects.get(name="mock")
    assert "provider" in admin.post(ADD, {"provider": str(mock.pk), "name": "x"}).context["adminform"].form.errors


def test_no_account_can_be_mistaken_for_that_of_the_settings(admin: Client, scaleway: Provider) -> None:
    given = filled("scaleway", SCALEWAY, provider=str(scaleway.pk), name="settings")
    assert "name" in admin.post(ADD, given).context["adminform"].form.errors


def test_a_secret_that_is_left_empty_stays_and_one_that_is_filled_in_replaces_it(admin: Client) -> None:
    row = account(provider="scaleway")
    change = page("change", row)

    assert_saved(admin.post(change, filled("scaleway", SCALEWAY | {"secret_key": ""}, name="renamed")))
    assert accounts.credentials(row.pk) == SCALEWAY

    assert_saved(admin.post(change, filled("scaleway", SCALEWAY | {"secret_key": ANOTHER})))
    assert accounts.credentials(row.pk)["secret_key"] == ANOTHER


def test_an_account_with_a_live_machine_may_get_new_keys_but_no_other_project(admin: Client) -> None:
    row = account(provider="scaleway")
    rows.deploy()
    Attempt.objects.update(account=row)
    elsewhere = filled("scaleway", SCALEWAY | {"project_id": ANOTHER})

    assert_saved(admin.post(page("change", row), filled("scaleway", SCALEWAY | {"secret_key": ANOTHER})))
    refused = admin.post(page("change", row), elsewhere)
    assert "can&#x27;t change now: terminate first" in str(refused.context["adminform"].form.errors)
    assert accounts.credentials(row.pk)["project_id"] == SCALEWAY["project_id"]

    Attempt.objects.update(outcome="destroyed")
    assert_saved(admin.post(page("change", row), elsewhere))


def test_a_secret_is_in_no_page_log_or_history(admin: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    row = account(provider="scaleway")
    wrong = filled("scaleway", SCALEWAY | {"project_id": "wrong"})

    answers = [admin.get(page(name, row)) for name in ("change", "history", "delete")]
    answers += [admin.get(LIST), admin.get(ADD), admin.post(page("change", row), wrong)]
    answers.append(admin.post(page("change", row), filled("scaleway", SCALEWAY), follow=True))

    told = [answer.content.decode() for answer in answers] + [str(LogEntry.objects.values_list("change_message"))]
    assert not [text for text in (*told, caplog.text) if CANARY in text]
    assert not [text for text in told if row.credentials in text]


def test_what_is_not_secret_is_shown(admin: Client) -> None:
    text = admin.get(page("change", account(provider="scaleway"))).content.decode()

    assert SCALEWAY["access_key"] in text
    assert SCALEWAY["project_id"] in text


def test_credentials_whose_key_is_lost_are_a_clear_error_and_can_be_entered_anew(admin: Client) -> None:
    row = account(provider="scaleway")
    seal_with_a_lost_key(row)
    change = page("change", row)

    text = admin.get(change).content.decode()
    assert "put the key that sealed them back into ENCRYPTION_KEYS, or enter them anew" in text.replace("&#x27;", "'")
    kept = admin.post(change, filled("scaleway", SCALEWAY | {"secret_key": ""}))
    assert set(kept.context["adminform"].form.errors) == {"scaleway_secret_key"}

    assert_saved(admin.post(change, filled("scaleway", SCALEWAY)))
    assert accounts.credentials(row.pk) == SCALEWAY


def test_an_account_with_a_live_machine_is_not_removed(admin: Client) -> None:
    row = account(provider="scaleway")
    instance = rows.deploy()[0].instance
    Attempt.objects.update(account=row)

    asked = admin.get(page("delete", row)).content.decode()
    answer = admin.post(page("delete", row), follow=True)

    assert str(instance.pk)[:8] in asked
    assert 'type="submit" value="Remove"' not in asked
    assert "terminate first what may run in it" in answer.content.decode()
    assert ProviderAccount.objects.get() == row
    assert not LogEntry.objects.exists()


def test_an_account_that_nothing_is_billed_to_is_removed(admin: Client) -> None:
    row = account(provider="scaleway")
    rows.deploy()
    Attempt.objects.update(account=row, outcome="destroyed")

    assert_saved(admin.post(page("delete", row)))

    assert not ProviderAccount.objects.exists()
    assert Attempt.objects.get().account_in_words == "research (removed)"
    assert LogEntry.objects.get().is_deletion()


def test_it_counts_the_machines_that_may_cost_money(admin: Client) -> None:
    row = account(provider="scaleway")
    rows.deploy(replicas=3)
    Attempt.objects.update(account=row)
    Attempt.objects.filter(pk=Attempt.objects.latest("started_at").pk).update(outcome="destroyed")

    (shown,) = admin.get(LIST).context["cl"].result_list

    assert shown.live == 2


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
def test_nobody_but_an_admin_gets_at_it(role: Role) -> None:
    client = rows.client_of(rows.user(role))
    row = account(provider="scaleway")

    for name in ("change", "delete", "history"):
        assert client.get(page(name, row)).status_code == 403
        assert client.post(page(name, row), filled("scaleway", SCALEWAY)).status_code == 403
    for address in (LIST, ADD):
        assert client.get(address).status_code == 403
        assert client.post(address, {"action": "delete_selected"}).status_code == 403
    assert ProviderAccount.objects.get() == row


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("lookup", ["credentials__startswith", "account__credentials__startswith"])
def test_credentials_cannot_be_felt_out_by_filtering(role: Role, lookup: str) -> None:
    client = rows.client_of(rows.user(role))
    address = LIST if lookup.startswith("c") else reverse("admin:fleet_attempt_changelist")
    assert client.get(address, {lookup: "g"}).status_code in (400, 403)
