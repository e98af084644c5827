from __future__ import annotations

from django_filters import rest_framework as filters

from fleet.models import Deployment, Instance, Leak, Rental, Sweep
from fleet.models.rental import Kind
from fleet.states import Status


class InstanceFilters(filters.FilterSet):
    status = filters.MultipleChoiceFilter(choices=Status.choices, help_text="Repeat it for any of several")
    model = filters.CharFilter(field_name="deployment__model__model_id", help_text="The Hugging Face id")
    provider = filters.CharFilter(field_name="provider__name")
    zone = filters.CharFilter(field_name="zone__name")

    class Meta:
        model = Instance
        fields = ["status", "model", "provider", "zone"]


class DeploymentFilters(filters.FilterSet):
    request_id = filters.UUIDFilter(help_text="The replicas that one request asked for")
    instance_id = filters.UUIDFilter()
    status = filters.MultipleChoiceFilter(
        field_name="instance__status", choices=Status.choices, help_text="Repeat it for any of several"
    )
    model = filters.CharFilter(field_name="model__model_id", help_text="The Hugging Face id")
    provider = filters.CharFilter(field_name="instance__provider__name")
    zone = filters.CharFilter(field_name="instance__zone__name")

    class Meta:
        model = Deployment
        fields = ["request_id", "instance_id", "status", "model", "provider", "zone"]


class LeakFilters(filters.FilterSet):
    leaking = filters.BooleanFilter(
        field_name="ended_at", lookup_expr="isnull", help_text="true: what costs money now; false: what is over"
    )
    kind = filters.ChoiceFilter(field_name="rental__kind", choices=Kind.choices)
    provider = filters.CharFilter(field_name="rental__provider__name")
    zone = filters.CharFilter(field_name="rental__zone__name")

    class Meta:
        model = Leak
        fields = ["leaking", "kind", "provider", "zone"]


class RentalFilters(filters.FilterSet):
    billing = filters.BooleanFilter(
        field_name="until", lookup_expr="isnull", help_text="true: what costs money now; false: what is gone"
    )
    kind = filters.ChoiceFilter(choices=Kind.choices)
    instance_id = filters.UUIDFilter(field_name="attempt__instance_id", help_text="Of which all attempts count")
    provider = filters.CharFilter(field_name="provider__name")
    zone = filters.CharFilter(field_name="zone__name")

    class Meta:
        model = Rental
        fields = ["billing", "kind", "instance_id", "provider", "zone"]


class SweepFilters(filters.FilterSet):
    provider = filters.CharFilter(field_name="zone__region__provider__name")
    zone = filters.CharFilter(field_name="zone__name")

    class Meta:
        model = Sweep
        fields = ["provider", "zone"]
