"""Instance types with their offers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from catalog.admin import columns
from catalog.admin.offers import OffersAdmin, OffersOfType
from catalog.models import InstanceAvailability, InstanceType


class ZoneFilter(admin.RelatedFieldListFilter):
    """By a zone that has the type."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.title = "zone"


class VanishedFilter(admin.EmptyFieldListFilter):
    """Whether the provider still lists it somewhere."""

    def choices(self, changelist: Any) -> Iterator[Any]:
        words = {"0": "Vanished", "1": "Listed"}
        for choice, value in zip(super().choices(changelist), (None, "1", "0"), strict=True):
            yield {**choice, "display": words.get(value or "", choice["display"])}


class SourceFilter(admin.SimpleListFilter):
    """Who wrote the row at first; columns that were edited since then are named in the list."""

    title = "source"
    parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("synced", "Seed or sync"), ("hand", "By hand")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[InstanceType]) -> QuerySet[InstanceType]:
        match self.value():
            case "synced":
                return queryset.exclude(synced={})
            case "hand":
                return queryset.filter(synced={})
        return queryset


@admin.register(InstanceType)
class InstanceTypeAdmin(OffersAdmin):
    form = OffersOfType
    list_display = (
        "name",
        "provider_link",
        "gpu_name",
        "gpu_count",
        "vram_per_gpu_gb",
        "total_vram",
        "price_from",
        "stock_by_zone",
        "is_active",
        "vanished",
        "source",
    )
    list_filter = (
        "provider",
        "is_active",
        ("vanished_at", VanishedFilter),
        SourceFilter,
        "gpu_name",
        "gpu_count",
        ("availabilities__zone", ZoneFilter),
    )
    list_select_related = ("provider",)
    search_fields = ("name", "gpu_name", "provider__name")
    fixed = ("provider",)
    actions = ("activate", "deactivate")

    def get_queryset(self, request: HttpRequest) -> QuerySet[InstanceType]:
        offers = InstanceAvailability.objects.select_related("zone").order_by("zone__name")
        rows: QuerySet[InstanceType] = super().get_queryset(request)
        return rows.prefetch_related(Prefetch("availabilities", offers))

    @admin.display(description="provider", ordering="provider__name")
    def provider_link(self, instance_type: InstanceType) -> SafeString:
        return columns.link(instance_type.provider)

    @admin.display(description="VRAM (GB)")
    def total_vram(self, instance_type: InstanceType) -> int:
        return instance_type.vram_gb

    @admin.display(description="price per hour from")
    def price_from(self, instance_type: InstanceType) -> str:
        return columns.cheapest(instance_type.availabilities.all())

    @admin.display(description="stock by zone")
    def stock_by_zone(self, instance_type: InstanceType) -> SafeString | str:
        return columns.stock_badges(instance_type.availabilities.all())

    @admin.display(description="vanished", ordering="vanished_at")
    def vanished(self, instance_type: InstanceType) -> str:
        return columns.instant(instance_type.vanished_at)

    @admin.display(description="source")
    def source(self, instance_type: InstanceType) -> str:
        return columns.source(instance_type)

    @admin.action(description="Offer the selected types for new machines", permissions=["change"])
    def activate(self, request: HttpRequest, chosen: QuerySet[InstanceType]) -> None:
        self.message_user(request, f"{chosen.update(is_active=True)} made active.")

    @admin.action(description="No new machines of the selected types", permissions=["change"])
    def deactivate(self, request: HttpRequest, chosen: QuerySet[InstanceType]) -> None:
        self.message_user(request, f"{chosen.update(is_active=False)} made inactive. Machines that run go on.")
