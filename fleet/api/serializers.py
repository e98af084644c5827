"""What the fleet's rows look like from outside. Secrets and leases are not among the fields."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from catalog.placement import Plan
from fleet import costs
from fleet.api.amounts import AMOUNTS, amounts
from fleet.api.links import link
from fleet.api.plans import PlanSerializer, shown
from fleet.models import Attempt, Deployment, DeploymentRequest, HeartbeatRefusal, Instance, Transition
from fleet.states import Status

_LINKS = {"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}


class TransitionSerializer(serializers.ModelSerializer[Transition]):
    from_status = serializers.SerializerMethodField(help_text="Null: this is how it began")

    class Meta:
        model = Transition
        fields = ["from_status", "to_status", "reason", "actor", "at"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=Status.choices, allow_null=True))
    def get_from_status(self, transition: Transition) -> str | None:
        return transition.from_status or None


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    instance_type = serializers.CharField(source="instance_type.name")
    zone = serializers.CharField(source="zone.name")
    account = serializers.CharField(source="account_in_words", help_text='"settings", or the name of another account')

    class Meta:
        model = Attempt
        fields = [
            "id",
            "ordinal",
            "instance_type",
            "zone",
            "account",
            "price_per_hour",
            "currency",
            "outcome",
            "error_code",
            "detail",
            "server_id",
            "started_at",
            "ended_at",
        ]
        read_only_fields = fields


class HeartbeatRefusalSerializer(serializers.ModelSerializer[HeartbeatRefusal]):
    class Meta:
        model = HeartbeatRefusal
        fields = ["reason", "address", "times", "first_at", "last_at"]
        read_only_fields = fields


class InstanceSerializer(serializers.ModelSerializer[Instance]):
    model = serializers.CharField(
        source="deployment.model.model_id", allow_null=True, help_text="The Hugging Face id of what it serves"
    )
    deployment_id = serializers.UUIDField(source="deployment.id", allow_null=True)
    provider = serializers.CharField(source="provider.name")
    region = serializers.CharField(source="zone.region.name")
    zone = serializers.CharField(source="zone.name")
    instance_type = serializers.CharField(source="instance_type.name")
    gpu_profile = serializers.DictField(help_text="A snapshot of the type's GPUs")
    links = serializers.SerializerMethodField()

    class Meta:
        model = Instance
        fields = [
            "id",
            "status",
            "status_reason",
            "status_changed_at",
            "model",
            "deployment_id",
            "provider",
            "region",
            "zone",
            "instance_type",
            "gpu_profile",
            "price_per_hour",
            "currency",
            "provider_instance_id",
            "ip_address",
            "port",
            "created_at",
            "terminated_at",
            "termination_requested_at",
            "termination_reason",
            "termination_actor",
            "drain",
            "interrupted_at",
            "last_heartbeat_at",
            "worker_detail",
            "last_error",
            "links",
        ]
        read_only_fields = fields

    @extend_schema_field(_LINKS)
    def get_links(self, instance: Instance) -> dict[str, str]:
        request = self.context["request"]
        links = {"self": link(request, "instance-detail", instance.pk)}
        if hasattr(instance, "deployment"):
            links["deployment"] = link(request, "deployment-detail", instance.deployment.pk)
        return links


class InstanceDetailSerializer(InstanceSerializer):
    transitions = TransitionSerializer(many=True, help_text="Every move, the first one first")
    attempts = AttemptSerializer(many=True, help_text="Every try at a machine, the first one first")
    cost_so_far = serializers.SerializerMethodField(
        help_text="By currency: all that its attempts have rented, volumes and addresses too"
    )

    heartbeat_refusals = HeartbeatRefusalSerializer(
        many=True,
        help_text="Who spoke for it with another token or from another address; the last one first",
    )

    class Meta(InstanceSerializer.Meta):
        fields = [*InstanceSerializer.Meta.fields, "cost_so_far", "transitions", "attempts", "heartbeat_refusals"]

    @extend_schema_field(AMOUNTS)
    def get_cost_so_far(self, instance: Instance) -> dict[str, str]:
        return amounts(costs.of_instance(instance, now=timezone.now()))


class DeploymentSerializer(serializers.ModelSerializer[Deployment]):
    model = serializers.CharField(source="model.model_id", help_text="The Hugging Face id")
    instance_id = serializers.UUIDField()
    replaces_instance_id = serializers.UUIDField(
        source="replaces_id",
        allow_null=True,
        help_text="Which one its instance stands in for, if the provider took that back",
    )
    request_id = serializers.UUIDField(help_text="What asked for it; replicas share one")
    status = serializers.ChoiceField(source="instance.status", choices=Status.choices, help_text="Of its instance")
    provider = serializers.CharField(source="instance.provider.name")
    zone = serializers.CharField(source="instance.zone.name")
    instance_type = serializers.CharField(source="instance.instance_type.name")
    context_length = serializers.IntegerField(source="request.context_length")
    concurrency = serializers.IntegerField(source="request.concurrency")
    requested_by = serializers.CharField(source="request.actor")
    links = serializers.SerializerMethodField()

    class Meta:
        model = Deployment
        fields = [
            "id",
            "request_id",
            "instance_id",
            "replaces_instance_id",
            "model",
            "status",
            "provider",
            "zone",
            "instance_type",
            "context_length",
            "concurrency",
            "requested_by",
            "created_at",
            "links",
        ]
        read_only_fields = fields

    @extend_schema_field(_LINKS)
    def get_links(self, deployment: Deployment) -> dict[str, str]:
        return _deployment_links(self.context["request"], deployment)


class DeploymentDetailSerializer(DeploymentSerializer):
    limits = serializers.DictField(source="request.limits", help_text="As they were asked for")
    plan = serializers.SerializerMethodField(help_text="As it was when it was asked for")

    class Meta(DeploymentSerializer.Meta):
        fields = [*DeploymentSerializer.Meta.fields, "limits", "plan"]

    @extend_schema_field(PlanSerializer)
    def get_plan(self, deployment: Deployment) -> dict[str, Any]:
        return shown(Plan.from_json(deployment.request.plan))


class AcceptedDeploymentSerializer(serializers.ModelSerializer[Deployment]):
    instance_id = serializers.UUIDField()
    status = serializers.ChoiceField(source="instance.status", choices=Status.choices, help_text="Of its instance")
    links = serializers.SerializerMethodField()

    class Meta:
        model = Deployment
        fields = ["id", "instance_id", "status", "links"]
        read_only_fields = fields

    @extend_schema_field(_LINKS)
    def get_links(self, deployment: Deployment) -> dict[str, str]:
        return _deployment_links(self.context["request"], deployment)


class AcceptedRequestSerializer(serializers.ModelSerializer[DeploymentRequest]):
    """The answer to `POST /deployments`."""

    model = serializers.CharField(source="model.model_id")
    deployments = AcceptedDeploymentSerializer(many=True)
    limits = serializers.DictField()
    plan = serializers.SerializerMethodField(help_text="`chosen` is the offer that is tried first")

    class Meta:
        model = DeploymentRequest
        fields = [
            "id",
            "model",
            "replicas",
            "context_length",
            "concurrency",
            "limits",
            "created_at",
            "deployments",
            "plan",
        ]
        read_only_fields = fields

    @extend_schema_field(PlanSerializer)
    def get_plan(self, request: DeploymentRequest) -> dict[str, Any]:
        return shown(Plan.from_json(request.plan))


def _deployment_links(request: Any, deployment: Deployment) -> dict[str, str]:
    return {
        "self": link(request, "deployment-detail", deployment.pk),
        "instance": link(request, "instance-detail", deployment.instance_id),
    }


class BootstrapSerializer(serializers.Serializer[Any]):
    """What a machine's agent sends in exchange for its engine's secrets."""

    instance_id = serializers.UUIDField()
    bootstrap_token = serializers.CharField(max_length=255)
    agent_token = serializers.CharField(min_length=20, max_length=255)
