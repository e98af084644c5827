from __future__ import annotations

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from fleet.models import Attempt, Leak, Rental
from fleet.states import Status
from tests.fleet.account_rows import account as account_row
from tests.fleet.admin import rows
from tests.fleet.admin.test_lists import page

pytestmark = pytest.mark.django_db

LEAKS = reverse("admin:fleet_leak_changelist")
LEDGER = reverse("admin:fleet_rental_changelist")


def test_money_leaking_now_says_what_where_why_and_how_much(viewer: Client) -> None:
    rows.leak(done="step 2: still there", last_error="throttled: 429")

    text = page(viewer, LEAKS)

    for part in (
        "Money leaking now",
        "server server-1",
        "mock<br>eu-1",
        "3.00 EUR",
        "6.00",
        "there is no such attempt",
        "step 2: still there",
        "throttled: 429",
    ):
        assert part in text


def test_what_is_over_is_shown_when_it_is_asked_for(viewer: Client) -> None:
    rows.leak()
    rows.leak("volume", ended_at=timezone.now(), done="gone, by the provider's word")

    assert "volume-2" not in page(viewer, LEAKS)
    over = viewer.get(LEAKS, {"state": "over"}).content.decode()
    assert "volume-2" in over
    assert "server-1" not in over
    everything = viewer.get(LEAKS, {"state": "all"}).content.decode()
    assert "volume-2" in everything
    assert "server-1" in everything


def test_an_operator_lets_go_what_the_brake_holds(operator: Client) -> None:
    held, other = rows.leak(), rows.leak()

    response = operator.post(LEAKS, {"action": "destroy_anyway", ACTION_CHECKBOX_NAME: [str(held.pk)]}, follow=True)

    held.refresh_from_db()
    other.refresh_from_db()
    assert held.approved_by == "operator@example.com"
    assert other.approved_by == ""
    assert "1 leak is approved" in response.content.decode()


def test_a_leak_that_waits_says_for_what(viewer: Client) -> None:
    rows.leak(done="7 machines are nobody's here, more than 5 at once: an operator must approve")

    text = page(viewer, LEAKS)

    assert ">waits<" in text
    assert "an operator must approve" in text


def test_a_leak_that_was_approved_says_by_whom(viewer: Client) -> None:
    rows.leak(done="7 machines are nobody's here", approved_by="ann@example.com")

    text = page(viewer, LEAKS)

    assert 'title="By ann@example.com">approved<' in text


def test_the_list_of_leaks_says_what_they_cost_together(viewer: Client) -> None:
    rows.leak()
    rows.leak("volume")
    rows.leak(ended_at=timezone.now())

    assert "2 found, for 6.00 EUR per hour, 12.00 EUR so far" in page(viewer, LEAKS)


def test_an_empty_list_of_leaks_says_that_nothing_leaks(viewer: Client) -> None:
    assert "Nothing of ours bills without a row that claims it" in page(viewer, LEAKS)


def test_a_leak_leads_to_its_row_in_the_ledger_and_back(viewer: Client) -> None:
    leak = rows.leak()
    of_leak = reverse("admin:fleet_leak_change", args=[leak.pk])
    of_rental = reverse("admin:fleet_rental_change", args=[leak.rental_id])

    assert of_rental in page(viewer, of_leak)
    assert of_leak in page(viewer, of_rental)


def test_a_viewer_cannot(viewer: Client) -> None:
    held = rows.leak()

    response = viewer.post(LEAKS, {"action": "destroy_anyway", ACTION_CHECKBOX_NAME: [str(held.pk)]})

    assert response.status_code == 403
    held.refresh_from_db()
    assert held.approved_by == ""


def test_approving_what_is_over_does_nothing(operator: Client) -> None:
    over = rows.leak(ended_at=timezone.now())

    response = operator.post(
        LEAKS + "?state=over", {"action": "destroy_anyway", ACTION_CHECKBOX_NAME: [str(over.pk)]}, follow=True
    )

    assert "Nothing to approve" in response.content.decode()
    assert not LogEntry.objects.exists()
    assert Leak.objects.exclude(approved_by="").count() == 0


def test_a_place_that_was_not_swept_for_three_periods_stands_out(viewer: Client) -> None:
    url = reverse("admin:fleet_sweep_changelist")
    late = rows.sweep(seconds_ago=200, last_error="auth: revoked")

    text = page(viewer, url)
    assert 'inv-bad"' in text
    assert "auth: revoked" in text

    late.delete()
    rows.sweep(seconds_ago=10)
    assert 'inv-bad"' not in page(viewer, url)


def test_a_sweep_counts_what_leaks_in_its_account_and_zone_and_leads_there(viewer: Client) -> None:
    account = account_row()
    rows.sweep()
    rows.sweep(account=account)
    for _ in range(3):
        rows.leak()
    rows.leak(ended_at=timezone.now())
    Rental.objects.filter(pk=rows.leak().rental_id).update(account=account)

    response = viewer.get(reverse("admin:fleet_sweep_changelist"))

    of_account = {row.account: row.leaks for row in response.context["cl"].result_list}
    assert of_account == {None: 3, account: 1}
    zone = Rental.objects.all()[0].zone_id
    assert f"{LEAKS}?rental__zone__id__exact={zone}" in response.content.decode()


def test_a_rental_leads_to_its_instance(viewer: Client) -> None:
    instance = rows.instance_in(Status.READY)
    rental = rows.leak().rental
    Rental.objects.filter(pk=rental.pk).update(attempt=Attempt.objects.get(instance=instance))

    assert reverse("admin:fleet_instance_change", args=[instance.pk]) in page(viewer, LEDGER)


def test_the_ledger_says_what_all_that_bills_costs(viewer: Client) -> None:
    rows.leak()
    rows.leak(ended_at=timezone.now())

    assert "1 billing now, 3.00 EUR per hour" in page(viewer, LEDGER)


def test_the_ledger_says_what_bills(viewer: Client) -> None:
    rows.leak()
    rows.leak(ended_at=timezone.now())

    assert "server-1" in page(viewer, LEDGER)
    assert "server-2" not in page(viewer, LEDGER)
    assert "server-2" in viewer.get(LEDGER, {"billing": "over"}).content.decode()


def test_an_instances_page_says_what_it_has_cost(viewer: Client) -> None:
    instance = rows.instance_in(Status.READY)
    rental = rows.leak().rental
    Rental.objects.filter(pk=rental.pk).update(attempt=Attempt.objects.get(instance=instance))

    assert "6.00" in page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))


@pytest.mark.parametrize("name", ["leak", "rental", "sweep"])
def test_a_list_can_be_sorted_by_every_column_that_offers_it(name: str, viewer: Client) -> None:
    rows.leak()
    rows.sweep()
    url = reverse(f"admin:fleet_{name}_changelist")
    columns = len(viewer.get(url).context["cl"].list_display)

    answers = {viewer.get(url, {"o": str(number)}).status_code for number in range(columns)}

    assert answers == {200}


@pytest.mark.parametrize("name", ["leak", "rental"])
def test_a_list_takes_as_many_queries_for_thirty_rows_as_for_one(
    name: str, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    url = reverse(f"admin:fleet_{name}_changelist")
    attempt = Attempt.objects.get(instance=rows.instance_in(Status.READY))
    rows.leak()
    Rental.objects.update(attempt=attempt)
    viewer.get(url)
    with CaptureQueriesContext(connection) as few:
        viewer.get(url)
    for _ in range(29):
        rows.leak()
    Rental.objects.update(attempt=attempt)
    with django_assert_num_queries(len(few)):
        viewer.get(url)
