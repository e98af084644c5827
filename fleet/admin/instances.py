"""The rented machines: what they are, what has happened to them, and the two ways to end them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from fleet import costs
from fleet.admin import columns
from fleet.admin.history import AttemptInline, HeartbeatRefusalInline, TransitionInline
from fleet.admin.read_only import ReadOnlyAdmin
from fleet.admin.termination import TerminationActions
from fleet.models import Deployment, Instance, Rental
from fleet.states import DEFINITIONS, FINAL, Status

_END = "End"
_TERMINATION = (("termination_requested_at", "termination_actor"), ("termination_reason", "drain"))
_REASON_LENGTH = 60  # characters of a reason that a list shows


@admin.register(Instance)
class InstanceAdmin(TerminationActions, ReadOnlyAdmin):
    list_display = (
        "short_id",
        "status_badge",
        "reason",
        "model_link",
        "type_link",
        "place",
        "price",
        "heartbeat",
        "created",
    )
    list_filter = (
        "status",
        ("provider", admin.RelatedOnlyFieldListFilter),
        ("zone", admin.RelatedOnlyFieldListFilter),
        ("deployment__model", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("provider", "zone", "instance_type", "deployment__model")
    search_fields = ("id__istartswith", "provider_instance_id", "ip_address", "deployment__model__model_id")
    search_help_text = "Start of the id, id at the provider, IP address, model"
    ordering = ("-created_at",)
    date_hierarchy = "created_at"
    inlines = (TransitionInline, AttemptInline, HeartbeatRefusalInline)
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "id",
                    "status_defined",
                    ("status_reason", "status_changed_at"),
                    ("model_link", "deployment_link"),
                )
            },
        ),
        (
            "Machine",
            {
                "fields": (
                    ("provider_link", "zone_link", "type_link"),
                    "gpus",
                    ("price", "cost", "created_at"),
                    ("id_at_the_provider", "address", "port"),
                )
            },
        ),
        ("Worker", {"fields": (("heartbeat", "registered_at"), "worker_detail")}),
        (_END, {"fields": (*_TERMINATION, ("interrupted_at", "terminated_at"), "stand_in")}),
        ("Orchestrator", {"fields": (("next_attempt_at", "lock_expires_at"), ("failures", "last_error"))}),
    )

    # --- columns ------------------------------------------------------------------------------------------------

    @admin.display(description="id", ordering="id")
    def short_id(self, instance: Instance) -> str:
        return columns.short(instance)

    @admin.display(description="status", ordering="status")
    def status_badge(self, instance: Instance) -> SafeString | str:
        return columns.status_badge(instance.status)

    @admin.display(description="status")
    def status_defined(self, instance: Instance) -> SafeString:
        return format_html(
            '{}<span class="inv-definition">{}</span>',
            columns.status_badge(instance.status),
            DEFINITIONS[Status(instance.status)],
        )

    @admin.display(description="model", ordering="deployment__model__name")
    def model_link(self, instance: Instance) -> SafeString | str:
        deployment = _deployment(instance)
        return columns.link(deployment and deployment.model)

    @admin.display(description="deployment")
    def deployment_link(self, instance: Instance) -> SafeString | str:
        return columns.link(_deployment(instance))

    @admin.display(description="where", ordering="zone__name")
    def place(self, instance: Instance) -> SafeString:
        return format_html("{}<br>{}", instance.provider, columns.link(instance.zone))

    @admin.display(description="replaced by")
    def stand_in(self, instance: Instance) -> SafeString | str:
        replacement = Deployment.objects.filter(replaces=instance).select_related("instance").first()
        return columns.link(replacement and replacement.instance)

    @admin.display(description="provider")
    def provider_link(self, instance: Instance) -> SafeString | str:
        return columns.link(instance.provider)

    @admin.display(description="zone", ordering="zone__name")
    def zone_link(self, instance: Instance) -> SafeString | str:
        return columns.link(instance.zone)

    @admin.display(description="type", ordering="instance_type__name")
    def type_link(self, instance: Instance) -> SafeString | str:
        return columns.link(instance.instance_type)

    @admin.display(description="price per hour", ordering="price_per_hour")
    def price(self, instance: Instance) -> str:
        return columns.price(instance.price_per_hour, instance.currency)

    @admin.display(description="cost so far")
    def cost(self, instance: Instance) -> str:
        rentals = Rental.objects.filter(attempt__instance=instance)
        return columns.amounts(costs.total(rentals, now=timezone.now()))

    @admin.display(description="GPUs")
    def gpus(self, instance: Instance) -> str:
        profile = dict(instance.gpu_profile)
        machine = f"{profile.pop('count', 1)} x {profile.pop('name', '?')}, {profile.pop('vram', '?')} GB each"
        return "; ".join([machine, *(_in_words(name, value) for name, value in profile.items())])

    @admin.display(description="id at the provider")
    def id_at_the_provider(self, instance: Instance) -> str:
        return instance.provider_instance_id or columns.NOTHING

    @admin.display(description="IP address")
    def address(self, instance: Instance) -> str:
        return instance.ip_address or columns.NOTHING

    @admin.display(description="last heartbeat", ordering="last_heartbeat_at")
    def heartbeat(self, instance: Instance) -> SafeString | str:
        now, last = timezone.now(), instance.last_heartbeat_at
        stale = last is not None and now - last > timedelta(seconds=settings.HEARTBEAT_STALE_AFTER)
        return columns.moment(last, now, "bad" if stale and instance.status == Status.READY else None)

    @admin.display(description="created", ordering="created_at")
    def created(self, instance: Instance) -> SafeString | str:
        return columns.moment(instance.created_at, timezone.now())

    @admin.display(description="status reason")
    def reason(self, instance: Instance) -> SafeString:
        text = instance.status_reason
        return format_html('<span title="{}">{}</span>', text, Truncator(text).chars(_REASON_LENGTH))

    # --- the page -------------------------------------------------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Instance | None = None) -> Any:
        ends = obj is not None and (obj.termination_requested_at or obj.interrupted_at or obj.terminated_at)
        return [section for section in self.fieldsets if ends or section[0] != _END]

    def get_inlines(self, request: HttpRequest, obj: Instance | None) -> list[Any]:
        # Refused heartbeats are rare: an empty table of them would look as if something were missing.
        refused = obj is not None and obj.heartbeat_refusals.exists()
        return [inline for inline in self.inlines if refused or inline is not HeartbeatRefusalInline]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        may_end = self.has_command_permission(request)
        context = {"may_end": may_end, "final_statuses": FINAL, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)


def _in_words(name: str, value: Any) -> str:
    """Of the profile's numbers: "KV cache 1.88 GB", "tensor parallel size 4"."""
    words, gigabytes = name.removesuffix("_gb").replace("_", " ").replace("kv", "KV"), name.endswith("_gb")
    return f"{words} {value} GB" if gigabytes else f"{words} {value}"


def _deployment(instance: Instance) -> Deployment | None:
    """None: a row that was written by hand."""
    return getattr(instance, "deployment", None)
