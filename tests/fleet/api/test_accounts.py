from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from fleet.models import Attempt
from tests.fleet.account_rows import CANARY, account
from tests.inventiv.api_stage import MakeInstances

pytestmark = pytest.mark.django_db

PATH = "/provider-accounts"


def test_an_admin_sees_who_pays_and_for_how_many_machines(admin: APIClient, make_instances: MakeInstances) -> None:
    row = account()
    make_instances(3)
    mine, ended, _ = Attempt.objects.all()
    Attempt.objects.filter(pk__in=[mine.pk, ended.pk]).update(account=row)
    Attempt.objects.filter(pk=ended.pk).update(outcome="destroyed")

    (shown,) = admin.get(PATH).json()["results"]

    assert (shown["provider"], shown["name"], shown["is_active"], shown["live_machines"]) == (
        "mock",
        "research",
        True,
        1,
    )


def test_each_try_of_an_instance_names_the_account_that_paid_for_it(
    viewer: APIClient, make_instances: MakeInstances
) -> None:
    removed, there, ours = make_instances(3)
    removed.attempts.update(account_name="old")
    there.attempts.update(account=account())

    shown = {one: viewer.get(f"/instances/{one.pk}").json()["attempts"][0]["account"] for one in (removed, there, ours)}

    assert shown == {removed: "old (removed)", there: "research", ours: "settings"}


def test_credentials_are_in_no_answer(admin: APIClient) -> None:
    row = account(provider="scaleway")

    for path in (PATH, f"{PATH}/{row.pk}", f"{PATH}?credentials__startswith=g", f"{PATH}?ordering=credentials"):
        text = admin.get(path).content.decode()
        assert CANARY not in text
        assert row.credentials not in text


@pytest.mark.parametrize("query", ["credentials=x", "credentials__startswith=g"])
def test_credentials_cannot_be_felt_out_by_filtering(admin: APIClient, query: str) -> None:
    assert admin.get(f"{PATH}?{query}").status_code == 400


def test_it_can_be_narrowed_by_provider_and_activity(admin: APIClient) -> None:
    account("on"), account("off", is_active=False), account("other", provider="scaleway")

    response = admin.get(PATH, {"provider": "mock", "is_active": "true"})

    assert [row["name"] for row in response.json()["results"]] == ["on"]


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_it_is_read_only(admin: APIClient, method: str) -> None:
    row = account()
    address = PATH if method == "post" else f"{PATH}/{row.pk}"
    assert getattr(admin, method)(address, {}).status_code == 405
