"""What was asked for: deployments and the requests behind them, and the page on which a model is deployed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import AdminForm
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString

from catalog.placement import Limits, Plan
from fleet import commands
from fleet.admin import columns
from fleet.admin.actor import actor_of
from fleet.admin.deploy import DeployForm
from fleet.admin.plans import plan_table, summary
from fleet.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from fleet.admin.retry import RetryActions
from fleet.models import Deployment, DeploymentRequest
from fleet.orders import CommandRefused


class DeploymentColumns:
    @admin.display(description="id", ordering="id")
    def short_id(self, deployment: Deployment) -> str:
        return columns.short(deployment)

    @admin.display(description="model", ordering="model__name")
    def model_link(self, deployment: Deployment) -> SafeString | str:
        return columns.link(deployment.model)

    @admin.display(description="instance")
    def instance_link(self, deployment: Deployment) -> SafeString | str:
        return columns.link(deployment.instance, columns.short(deployment.instance))

    @admin.display(description="stands in for")
    def replaces_link(self, deployment: Deployment) -> SafeString | str:
        return columns.link(deployment.replaces)

    @admin.display(description="status", ordering="instance__status")
    def status_badge(self, deployment: Deployment) -> SafeString | str:
        return columns.status_badge(deployment.instance.status)

    @admin.display(description="request")
    def request_link(self, deployment: Deployment) -> SafeString | str:
        return columns.link(deployment.request, columns.short(deployment.request))

    @admin.display(description="price per hour", ordering="instance__price_per_hour")
    def price(self, deployment: Deployment) -> str:
        return columns.price(deployment.instance.price_per_hour, deployment.instance.currency)

    @admin.display(description="asked by", ordering="request__actor")
    def actor(self, deployment: Deployment) -> str:
        return deployment.request.actor

    @admin.display(description="created", ordering="created_at")
    def created(self, deployment: Deployment) -> SafeString | str:
        return columns.moment(deployment.created_at, timezone.now())


@admin.register(Deployment)
class DeploymentAdmin(RetryActions, DeploymentColumns, ReadOnlyAdmin):
    """Its "add" page deploys a model, by the command that the API calls."""

    list_display = (
        "short_id",
        "model_link",
        "instance_link",
        "status_badge",
        "price",
        "request_link",
        "actor",
        "created",
    )
    list_filter = ("instance__status", ("model", admin.RelatedOnlyFieldListFilter))
    list_select_related = ("model", "instance", "request")
    search_fields = ("id__istartswith", "instance__id__istartswith", "model__model_id", "request__actor")
    search_help_text = "Start of the deployment's or its instance's id, model, who asked"
    ordering = ("-created_at",)
    date_hierarchy = "created_at"
    add_form_template = "admin/fleet/deployment/deploy.html"
    fieldsets = (
        (None, {"fields": ("id", "model_link", ("instance_link", "replaces_link"), ("status_badge", "price"))}),
        ("Request", {"fields": ("request_link", ("actor", "created_at"))}),
        ("Plan", {"fields": ("plan_as_table",)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_command_permission(request)

    @admin.display(description="plan")
    def plan_as_table(self, deployment: Deployment) -> SafeString:
        return plan_table(Plan.from_json(deployment.request.plan), replicas=deployment.request.replicas)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"may_retry": self.has_command_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    # --- deploying ------------------------------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return self._deploy_page(request, DeployForm(initial=_initial(request)))
        form = DeployForm(request.POST)
        if not form.is_valid():
            return self._deploy_page(request, form)
        try:
            if "_deploy" in request.POST:
                return self._deploy(request, form)
            return self._deploy_page(request, form, commands.plan_deployment(form.order()))
        except CommandRefused as refusal:
            form.refuse(refusal)
            return self._deploy_page(request, form, refusal.plan)

    def _deploy(self, request: HttpRequest, form: DeployForm) -> HttpResponse:
        asked = commands.request_deployment(
            form.order(),
            actor=actor_of(request),
            now=timezone.now(),
            idempotency_key=f"admin:{form.cleaned_data['idempotency_key']}",
        )
        self.log_addition(request, asked, "Deployed in the admin.")
        chosen = summary(Plan.from_json(asked.plan), replicas=asked.replicas)
        self.message_user(request, f"Deploying {asked.model}: {chosen}.", messages.SUCCESS)
        return redirect("admin:fleet_deploymentrequest_change", asked.pk)

    def _deploy_page(self, request: HttpRequest, form: DeployForm, plan: Plan | None = None) -> HttpResponse:
        replicas = form.cleaned_data.get("replicas", 1) if form.is_bound else 1
        context = {
            **self.admin_site.each_context(request),
            "title": "Deploy a model",
            "subtitle": None,
            "adminform": _admin_form(form, self),
            "errors": form.errors,
            "media": self.media + form.media,
            "inline_admin_formsets": [],
            "is_popup": False,
            "to_field": None,
            "plan_table": plan and plan_table(plan, replicas=replicas),
        }
        return self.render_change_form(request, context, add=True)


def _admin_form(form: Any, model_admin: DeploymentAdmin) -> AdminForm:
    return AdminForm(form, form.fieldsets, {}, (), model_admin=model_admin)


def _initial(request: HttpRequest) -> dict[str, Any]:
    """`?model=` names a model by its primary key: the model's own page links here."""
    return {"model": request.GET["model"]} if "model" in request.GET else {}


class DeploymentInline(DeploymentColumns, ReadOnlyInline):
    model = Deployment
    fields = readonly_fields = ("instance_link", "status_badge", "price", "created")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).select_related("instance")


@admin.register(DeploymentRequest)
class DeploymentRequestAdmin(ReadOnlyAdmin):
    list_display = ("short_id", "model_link", "replicas", "context_length", "concurrency", "actor", "created")
    list_filter = (("model", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("model",)
    search_fields = ("id__istartswith", "model__model_id", "actor")
    search_help_text = "Start of the id, model, who asked"
    ordering = ("-created_at",)
    date_hierarchy = "created_at"
    inlines = (DeploymentInline,)
    fieldsets = (
        (None, {"fields": ("id", "model_link", "replicas", ("context_length", "concurrency"), "limits_in_words")}),
        ("Asked", {"fields": (("actor", "requested_by"), ("created_at", "idempotency_key"))}),
        ("Plan", {"fields": ("plan_as_table",)}),
    )

    @admin.display(description="id", ordering="id")
    def short_id(self, asked: DeploymentRequest) -> str:
        return columns.short(asked)

    @admin.display(description="model", ordering="model__name")
    def model_link(self, asked: DeploymentRequest) -> SafeString | str:
        return columns.link(asked.model)

    @admin.display(description="created", ordering="created_at")
    def created(self, asked: DeploymentRequest) -> SafeString | str:
        return columns.moment(asked.created_at, timezone.now())

    @admin.display(description="limits")
    def limits_in_words(self, asked: DeploymentRequest) -> str:
        limits = Limits.from_json(asked.limits)
        names = ("providers", "regions", "zones", "instance_types")
        words = [
            f"{name.replace('_', ' ')}: {', '.join(getattr(limits, name))}" for name in names if getattr(limits, name)
        ]
        if limits.max_price_per_hour is not None:
            words.append(f"at most {columns.price(limits.max_price_per_hour, limits.currency)} per hour")
        if limits.spot:
            words.append("spot machines only")
        return "; ".join(words) or "none"

    @admin.display(description="plan")
    def plan_as_table(self, asked: DeploymentRequest) -> SafeString:
        return plan_table(Plan.from_json(asked.plan), replicas=asked.replicas)
