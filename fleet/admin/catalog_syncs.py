"""When the catalogue was last brought in line with the providers, and the button that does it now."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString

from catalog.models import CatalogSync
from fleet import commands
from fleet.admin import columns
from fleet.admin.actor import actor_of
from fleet.admin.read_only import ReadOnlyAdmin


class ResultFilter(admin.SimpleListFilter):
    title = "result"
    parameter_name = "result"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "Failed"), ("partly", "Partly"), ("done", "Done")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[CatalogSync]) -> QuerySet[CatalogSync]:
        match self.value():
            case "failed":
                return queryset.exclude(error="")
            case "partly":
                return queryset.filter(error="").exclude(skipped="")
            case "done":
                return queryset.filter(error="", skipped="", succeeded_at__isnull=False)
        return queryset


@admin.register(CatalogSync)
class CatalogSyncAdmin(ReadOnlyAdmin):
    list_display = (
        "subject",
        "provider",
        "tried",
        "succeeded",
        "result",
        "listed",
        "created",
        "updated",
        "kept",
        "vanished",
        "requested",
    )
    list_filter = (("provider", admin.RelatedOnlyFieldListFilter), ResultFilter)
    list_select_related = ("provider", "zone")
    search_fields = ("provider__name", "zone__name")
    ordering = ("provider__name", "zone__name")
    fieldsets = (
        (None, {"fields": ("provider", "zone", ("tried_at", "succeeded_at"), ("requested_at", "requested_by"))}),
        ("Result", {"fields": ("error", "listed", ("created", "updated"), ("kept", "vanished"), "skipped")}),
    )

    def get_urls(self) -> list[URLPattern]:
        now = path("now/", self.admin_site.admin_view(self.sync_now), name="catalog_catalogsync_now")
        return [now, *super().get_urls()]

    def has_delete_permission(self, request: HttpRequest, obj: CatalogSync | None = None) -> bool:
        # A zone or a provider that is deleted takes its rows along, and Django asks whether it may.
        return request.user.has_perm("catalog.delete_catalogsync")

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return {}

    def sync_now(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm("catalog.change_instancetype"):
            raise PermissionDenied
        asked = commands.request_catalog_sync(actor=actor_of(request), now=timezone.now())
        text = f"Asking {', '.join(asked)} what there is. Look here again in a moment."
        self.message_user(request, text, messages.SUCCESS)
        return redirect("admin:catalog_catalogsync_changelist")

    @admin.display(description="what", ordering="zone__name")
    def subject(self, sync: CatalogSync) -> str:
        return "the list of zones" if sync.zone is None else str(sync.zone)

    @admin.display(description="tried", ordering="tried_at")
    def tried(self, sync: CatalogSync) -> SafeString | str:
        return columns.moment(sync.tried_at, timezone.now())

    @admin.display(description="succeeded", ordering="succeeded_at")
    def succeeded(self, sync: CatalogSync) -> SafeString | str:
        return columns.moment(sync.succeeded_at, timezone.now())

    @admin.display(description="result", ordering="error")
    def result(self, sync: CatalogSync) -> SafeString | str:
        if sync.error:
            return columns.badge("failed", "bad", title=sync.error)
        if sync.skipped:
            return columns.badge("partly", "warn", title=sync.skipped)
        return columns.NOTHING if sync.succeeded_at is None else columns.badge("done", "good")

    @admin.display(description="asked for", ordering="requested_at")
    def requested(self, sync: CatalogSync) -> SafeString | str:
        return columns.moment(sync.requested_at, timezone.now())
