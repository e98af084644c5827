"""Ending instances from the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from fleet.models import Instance
from fleet.states import Status
from tests.fleet.admin import rows

LIST = reverse("admin:fleet_instance_changelist")
CONFIRMED = {"confirmed": "yes", "reason": "too dear"}


def end(client: Client, action: str, *instances: Instance, **more: Any) -> Any:
    chosen = {"action": action, "_selected_action": [instance.pk for instance in instances]}
    return client.post(LIST, {**chosen, **more}, follow=True)


def test_it_says_first_how_many_end_and_what_they_cost(operator: Client) -> None:
    ready, booting, over = (rows.instance_in(s) for s in (Status.READY, Status.BOOTING, Status.TERMINATED))
    text = end(operator, "terminate_now", ready, booting, over).content.decode()
    assert "Terminate now: 2 instances" in text
    assert "6.00 EUR per hour" in text
    assert "1 of those chosen is terminated already" in text
    assert "Requests that run now are cut off" in text
    assert not Instance.objects.filter(termination_requested_at__isnull=False).exists()


@pytest.mark.parametrize(("action", "drain"), [("drain_and_terminate", True), ("terminate_now", False)])
def test_it_ends_them_by_the_command_once_confirmed(operator: Client, action: str, drain: bool) -> None:
    instances = [rows.instance_in(Status.READY), rows.instance_in(Status.FAILED)]
    end(operator, action, *instances, **CONFIRMED)
    for instance in instances:
        instance.refresh_from_db()
        assert instance.termination_requested_at is not None
        assert instance.termination_reason == "too dear"
        assert instance.termination_actor == "operator@example.com"
        assert instance.drain is drain


def test_it_ends_what_has_left_the_filtered_list_in_the_meantime(operator: Client) -> None:
    instance = rows.instance_in(Status.BOOTING)
    form = end(operator, "terminate_now", instance).content.decode()
    assert f'action="{LIST}"' in form  # and not the filtered list, which would not hold it any more


def test_a_reason_is_needed(operator: Client) -> None:
    instance = rows.instance_in(Status.READY)
    assert "This field is required" in end(operator, "terminate_now", instance, confirmed="yes").content.decode()
    instance.refresh_from_db()
    assert instance.termination_requested_at is None


def test_what_is_terminated_already_is_left_alone(operator: Client) -> None:
    instance = rows.instance_in(Status.TERMINATED)
    assert "Nothing to end" in end(operator, "terminate_now", instance, **CONFIRMED).content.decode()


def test_the_pages_buttons_post_the_same_actions(operator: Client) -> None:
    live, over = rows.instance_in(Status.READY), rows.instance_in(Status.TERMINATED)
    assert "Terminate now" in operator.get(reverse("admin:fleet_instance_change", args=[live.pk])).content.decode()
    assert "Terminate now" not in operator.get(reverse("admin:fleet_instance_change", args=[over.pk])).content.decode()


@pytest.mark.parametrize("chosen", ["no-uuid", ""])
def test_a_malformed_id_is_a_bad_request(operator: Client, chosen: str) -> None:
    rows.instance_in(Status.READY)
    response = operator.post(LIST, {"action": "terminate_now", "_selected_action": chosen, **CONFIRMED})
    assert response.status_code == 400


def test_a_viewer_sees_no_action_and_is_refused_one(viewer: Client) -> None:
    instance = rows.instance_in(Status.READY)
    url = reverse("admin:fleet_instance_change", args=[instance.pk])
    assert "erminate now" not in viewer.get(LIST).content.decode() + viewer.get(url).content.decode()
    assert end(viewer, "terminate_now", instance, **CONFIRMED).status_code == 403
    instance.refresh_from_db()
    assert instance.termination_requested_at is None
