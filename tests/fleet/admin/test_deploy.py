"""Deploying from the admin: the form, the dry run, the command."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from catalog.models import InstanceAvailability, LlmModel, Provider
from catalog.placement import Limits
from fleet.models import Deployment, DeploymentRequest, Instance
from fleet.states import Status
from tests.fleet.admin import rows

ADD = reverse("admin:fleet_deployment_add")
LIST = reverse("admin:fleet_deployment_changelist")


def order(of: LlmModel, **changes: Any) -> dict[str, Any]:
    return {"model": of.pk, "replicas": 1, "currency": "EUR", "idempotency_key": uuid.uuid4(), **changes}


def errors(response: Any) -> dict[str, list[str]]:
    assert response.status_code == 200
    found: dict[str, list[str]] = response.context["adminform"].form.errors
    return found


def test_the_form_starts_with_the_model_that_the_link_names(operator: Client, model: LlmModel) -> None:
    assert f'value="{model.pk}" selected' in operator.get(ADD, {"model": str(model.pk)}).content.decode()
    assert operator.get(ADD, {"model": "nonsense"}).status_code == 200


def test_the_plan_is_shown_and_nothing_is_written(operator: Client, model: LlmModel) -> None:
    text = operator.post(ADD, order(model, replicas=2, _plan="Show plan")).content.decode()
    assert "2 x LARGE in eu-1 (mock) for 6.00 EUR per hour" in text
    assert "1 offer left out" in text
    assert "the model requires 16 GB" in text
    assert not DeploymentRequest.objects.exists()


def test_enter_in_a_field_shows_the_plan_and_rents_nothing(operator: Client, model: LlmModel) -> None:
    assert operator.post(ADD, order(model)).status_code == 200
    assert not DeploymentRequest.objects.exists()


def test_it_deploys_by_the_command_and_leads_to_the_request(operator: Client, model: LlmModel) -> None:
    response = operator.post(
        ADD, order(model, replicas=2, zones=["eu-2"], max_price_per_hour="4", _deploy="Deploy"), follow=True
    )
    asked = DeploymentRequest.objects.get()
    assert response.redirect_chain == [(reverse("admin:fleet_deploymentrequest_change", args=[asked.pk]), 302)]
    assert asked.actor == "operator@example.com"
    assert asked.requested_by is not None
    assert asked.deployments.count() == 2
    assert {instance.zone.name for instance in Instance.objects.all()} == {"eu-2"}
    assert "zones: eu-2; at most 4.00 EUR per hour" in response.content.decode()
    assert "2 x LARGE in eu-2 (mock) for 7.00 EUR per hour" in response.content.decode()


def test_spot_machines_are_asked_for_with_a_tick(operator: Client, model: LlmModel) -> None:
    InstanceAvailability.objects.filter(zone__name="eu-2").update(spot_price_per_hour="1.25")

    text = operator.post(ADD, order(model, spot="on", _plan="Show plan")).content.decode()
    assert "LARGE in eu-2 (mock, spot) for 1.25 EUR per hour" in text
    assert "1.25 EUR (spot)" in text
    assert "mock rents no LARGE in eu-1 as a spot machine" in text

    page = operator.post(ADD, order(model, spot="on", _deploy="Deploy"), follow=True).content.decode()
    assert Limits.from_json(DeploymentRequest.objects.get().limits).spot
    assert "spot machines only" in page
    assert Instance.objects.get().price_per_hour == Decimal("1.25")


def test_the_plan_tells_of_our_own_tries(operator: Client, model: LlmModel) -> None:
    InstanceAvailability.objects.filter(zone__name="eu-1").update(
        last_success_at=datetime(2026, 11, 20, 8, 15, tzinfo=UTC),
        last_stockout_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
    )

    text = operator.post(ADD, order(model, _plan="Show plan")).content.decode()

    assert "sold out 2026-11-23 12:00, rented 2026-11-20 08:15" in text


def test_a_double_click_rents_nothing_twice(operator: Client, model: LlmModel) -> None:
    form = order(model, _deploy="Deploy")
    first, second = operator.post(ADD, form), operator.post(ADD, form)
    assert first.status_code == second.status_code == 302
    assert first.headers["Location"] == second.headers["Location"]
    assert Instance.objects.count() == 1


def test_the_same_page_sent_with_another_order_is_refused(operator: Client, model: LlmModel) -> None:
    form = order(model, _deploy="Deploy")
    operator.post(ADD, form)
    response = operator.post(ADD, {**form, "replicas": 3})
    assert "sent before" in errors(response)["__all__"][0]
    assert Instance.objects.count() == 1
    fresh = response.context["adminform"].form["idempotency_key"].value()
    assert str(fresh) != str(form["idempotency_key"])


def test_it_says_which_providers_are_not_enabled(operator: Client) -> None:
    Provider.objects.create(name="aws")

    form = operator.get(ADD).context["adminform"].form

    assert form.fields["providers"].choices == [("aws", "aws (not enabled)"), ("mock", "mock")]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"replicas": 0}, "replicas"),
        ({"replicas": 65}, "replicas"),
        ({"replicas": ""}, "replicas"),
        ({"replicas": "many"}, "replicas"),
        ({"context_length": 1_000_000}, "context_length"),
        ({"concurrency": 5000}, "concurrency"),
        ({"model": uuid.uuid4()}, "model"),
        ({"model": "nonsense"}, "model"),
        ({"zones": ["mars-1"]}, "zones"),
        ({"providers": ["mars"]}, "providers"),
        ({"max_price_per_hour": "-1"}, "max_price_per_hour"),
        ({"max_price_per_hour": "NaN"}, "max_price_per_hour"),
        ({"currency": "XXX"}, "currency"),
        ({"idempotency_key": "nonsense"}, "idempotency_key"),
    ],
)
@pytest.mark.parametrize("button", ["_deploy", "_plan"])
def test_an_order_that_cannot_be_is_refused_at_its_field(
    operator: Client, model: LlmModel, change: dict[str, Any], field: str, button: str
) -> None:
    response = operator.post(ADD, order(model, **change, **{button: "yes"}))
    assert set(errors(response)) == {field}
    assert not DeploymentRequest.objects.exists()


def test_an_order_that_nothing_fits_shows_why(operator: Client, model: LlmModel) -> None:
    response = operator.post(ADD, order(model, max_price_per_hour="1", _deploy="Deploy"))
    text = response.content.decode()
    assert errors(response)["model"] == ["no offer fits acme/small"]
    assert "more than the 1.00 EUR/h allowed" in text


def test_a_viewer_sees_no_way_to_deploy(viewer: Client, model: LlmModel) -> None:
    rows.deploy()
    assert ADD not in viewer.get(LIST).content.decode()
    assert viewer.get(ADD).status_code == 403
    assert viewer.post(ADD, order(model, _deploy="Deploy")).status_code == 403
    assert DeploymentRequest.objects.count() == 1


# --- retry --------------------------------------------------------------------------------------------------------


def retry(client: Client, *deployments: Deployment, **more: Any) -> Any:
    chosen = {"action": "retry", "_selected_action": [deployment.pk for deployment in deployments]}
    return client.post(LIST, {**chosen, **more}, follow=True)


def test_retry_asks_first_and_then_deploys_again(operator: Client) -> None:
    deployment = rows.instance_in(Status.FAILED).deployment
    page = retry(operator, deployment)
    assert "3.00 EUR per hour" in page.content.decode()
    assert DeploymentRequest.objects.count() == 1

    key = page.context["form"]["idempotency_key"].value()
    assert "Deploying Small again" in retry(operator, deployment, confirmed="yes", idempotency_key=key).content.decode()
    assert DeploymentRequest.objects.count() == 2


def test_a_double_click_on_retry_rents_nothing_twice(operator: Client) -> None:
    deployment = rows.instance_in(Status.TERMINATED).deployment
    key = uuid.uuid4()
    for _ in range(2):
        retry(operator, deployment, confirmed="yes", idempotency_key=key)
    assert DeploymentRequest.objects.count() == 2


def test_a_deployment_that_is_not_over_is_not_deployed_again(operator: Client) -> None:
    deployment = rows.instance_in(Status.READY).deployment
    text = retry(operator, deployment, confirmed="yes", idempotency_key=uuid.uuid4()).content.decode()
    assert "its instance has not failed and is not terminated" in text.replace("&#x27;", "'")
    assert DeploymentRequest.objects.count() == 1


def test_a_viewer_cannot_retry(viewer: Client) -> None:
    deployment = rows.instance_in(Status.FAILED).deployment
    assert "Retry" not in viewer.get(reverse("admin:fleet_deployment_change", args=[deployment.pk])).content.decode()
    assert retry(viewer, deployment, confirmed="yes", idempotency_key=uuid.uuid4()).status_code == 403
    assert DeploymentRequest.objects.count() == 1
