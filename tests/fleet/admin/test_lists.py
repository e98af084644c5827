"""The lists: their columns, filters and search, and how many queries they take."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from fleet.admin.instances import InstanceAdmin
from fleet.models import Attempt, Deployment, Instance
from fleet.states import DEFINITIONS, Status
from tests.fleet.admin import rows

INSTANCES = reverse("admin:fleet_instance_changelist")


def page(client: Client, url: str, **query: str) -> str:
    response = client.get(url, query)
    assert response.status_code == 200, response
    return response.content.decode()


def shown(client: Client, **query: str) -> set[str]:
    response = client.get(INSTANCES, query)
    assert response.status_code == 200
    return {str(row.pk) for row in response.context["cl"].result_list}


def test_it_shows_an_instance_with_its_status_price_and_links(viewer: Client) -> None:
    instance = rows.instance_in(Status.READY, ip_address="127.77.0.5", status_reason="healthy")
    text = page(viewer, INSTANCES)
    for part in (str(instance.pk)[:8], DEFINITIONS[Status.READY], "3.00 EUR", "LARGE", "eu-1", "healthy"):
        assert part in text
    assert reverse("admin:fleet_instance_change", args=[instance.pk]) in text


@pytest.mark.parametrize(("seconds", "coloured"), [(2, False), (3600, True)])
def test_a_stale_heartbeat_of_a_ready_instance_stands_out(viewer: Client, seconds: int, coloured: bool) -> None:
    rows.instance_in(Status.READY, last_heartbeat_at=timezone.now() - timedelta(seconds=seconds))
    assert ('inv-bad"' in page(viewer, INSTANCES)) is coloured


def test_it_filters_by_status_zone_provider_and_model(viewer: Client) -> None:
    ready, failed = rows.instance_in(Status.READY), rows.instance_in(Status.FAILED)
    model = Deployment.objects.get(instance=ready).model
    assert shown(viewer, status__exact="FAILED") == {str(failed.pk)}
    everything = {str(ready.pk), str(failed.pk)}
    assert shown(viewer, zone__id__exact=str(ready.zone_id)) == everything
    assert shown(viewer, provider__id__exact=str(ready.provider_id)) == everything
    assert shown(viewer, deployment__model__id__exact=str(model.pk)) == everything


def test_it_finds_an_instance_by_id_prefix_ip_server_id_and_model(viewer: Client) -> None:
    wanted = rows.instance_in(Status.READY, ip_address="127.77.0.5", provider_instance_id="srv-1")
    other = rows.instance_in(Status.READY, ip_address="127.77.9.9", provider_instance_id="srv-2")
    for query in (str(wanted.pk)[:13].upper(), "127.77.0.5", "srv-1"):
        assert shown(viewer, q=query) == {str(wanted.pk)}
    assert shown(viewer, q=rows.MODEL) == {str(wanted.pk), str(other.pk)}
    assert shown(viewer, q="nothing has this") == set()


@pytest.mark.parametrize("query", [{"q": "%'\""}, {"zone__id__exact": "no-uuid"}, {"p": "99999"}, {"o": "-1.x"}])
def test_a_query_that_makes_no_sense_is_no_error(viewer: Client, query: dict[str, str]) -> None:
    assert viewer.get(INSTANCES, query).status_code in (200, 302)


@pytest.mark.parametrize("column", ["api_key", "agent_token_sha256", "lock_token"])
def test_a_secret_cannot_be_felt_out_by_filtering(viewer: Client, column: str) -> None:
    rows.deploy()
    assert viewer.get(INSTANCES, {f"{column}__startswith": "g"}).status_code == 400


def test_an_instance_that_was_written_by_hand_breaks_nothing(viewer: Client) -> None:
    instance = rows.deploy()[0].instance
    Deployment.objects.all().delete()
    page(viewer, INSTANCES)
    page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))


@pytest.mark.parametrize("name", ["instance", "deployment", "deploymentrequest", "attempt", "transition"])
def test_a_list_takes_as_many_queries_for_thirty_rows_as_for_one(
    name: str, viewer: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    url = reverse(f"admin:fleet_{name}_changelist")
    rows.deploy()
    viewer.get(url)  # what is asked once only: content types
    with CaptureQueriesContext(connection) as few:
        viewer.get(url)
    for _ in range(29):
        rows.deploy()
    with django_assert_num_queries(len(few)):
        viewer.get(url)


def test_an_instances_page_takes_the_same_queries_however_long_its_history(
    viewer: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    instance = rows.instance_in(Status.FAILED)
    for ordinal in range(2, 12):
        Attempt.objects.create(
            instance=instance,
            ordinal=ordinal,
            instance_type=instance.instance_type,
            zone=instance.zone,
            price_per_hour=1,
            currency="EUR",
            outcome="rejected",
            error_code="capacity",
            started_at=timezone.now(),
        )
    with django_assert_max_num_queries(13):  # one of them where the process has no content type at hand yet
        text = page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))
    assert "now failed" in text
    assert text.count("capacity") == 10


def test_an_instances_page_shows_who_spoke_for_it_without_being_it(viewer: Client) -> None:
    instance, at = rows.instance_in(Status.READY), timezone.now()
    instance.heartbeat_refusals.create(reason="address", address="203.0.113.9", first_at=at, last_at=at)

    assert "203.0.113.9" in page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))


def test_an_instances_page_has_no_empty_table_of_refused_heartbeats(viewer: Client) -> None:
    instance = rows.instance_in(Status.READY)

    text = page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))

    assert "refused heartbeats" not in text.lower()


@pytest.mark.parametrize(("status", "shown"), [(Status.READY, False), (Status.TERMINATED, True)])
def test_an_instances_page_speaks_of_its_end_once_there_is_one(viewer: Client, status: Status, shown: bool) -> None:
    instance = rows.instance_in(status)

    text = page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))

    assert ("Termination actor" in text) is shown


def test_an_instances_page_leads_to_the_one_that_stands_in_for_it(viewer: Client) -> None:
    gone, stand_in = rows.instance_in(Status.TERMINATED), rows.instance_in(Status.READY)
    Deployment.objects.filter(instance=stand_in).update(replaces=gone)

    text = page(viewer, reverse("admin:fleet_instance_change", args=[gone.pk]))

    assert reverse("admin:fleet_instance_change", args=[stand_in.pk]) in text


def test_an_instances_page_writes_its_profile_in_units(viewer: Client) -> None:
    machine = {"name": "L4", "vram": 24, "count": 1}
    profile = {**machine, "weights_gb": 15.23, "kv_cache_gb": 1.88, "tensor_parallel_size": 1}
    instance = rows.instance_in(Status.READY, gpu_profile=profile)

    text = page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))

    assert "1 x L4, 24 GB each; weights 15.23 GB; KV cache 1.88 GB; tensor parallel size 1" in text


def test_an_attempt_at_a_spot_machine_says_so(viewer: Client) -> None:
    instance = rows.instance_in(Status.READY)
    Attempt.objects.update(spot=True)

    assert "3.00 EUR (spot)" in page(viewer, reverse("admin:fleet_instance_change", args=[instance.pk]))


def test_a_deployments_page_links_to_the_instance_that_its_own_stands_in_for(viewer: Client) -> None:
    gone, stand_in = rows.instance_in(Status.FAILED), rows.instance_in(Status.READY)
    deployment = Deployment.objects.get(instance=stand_in)
    Deployment.objects.filter(pk=deployment.pk).update(replaces=gone)

    text = page(viewer, reverse("admin:fleet_deployment_change", args=[deployment.pk]))

    assert reverse("admin:fleet_instance_change", args=[gone.pk]) in text


def test_a_late_clock_stands_out(viewer: Client) -> None:
    rows.tick("CLOCK:WAKE", period=2, seconds_ago=1)
    url = reverse("admin:fleet_clocktick_changelist")
    assert 'inv-bad"' not in page(viewer, url)
    rows.tick("CLOCK:REBUILD", period=30, seconds_ago=100)
    assert 'inv-bad"' in page(viewer, url)


def test_the_lists_of_operational_rows_never_count_the_whole_table() -> None:
    assert InstanceAdmin.show_full_result_count is False
    assert Instance.objects.count() == 0
