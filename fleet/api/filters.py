from __future__ import annotations

from django_filters import rest_framework as filters

from fleet.models import Deployment, Instance
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
