"""Providers, regions and zones."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from catalog.admin import columns
from catalog.admin.base import CatalogAdmin, TabularInline
from catalog.admin.offers import OffersAdmin, OffersOfZone
from catalog.models import InstanceType, Provider, Region, Zone


class RegionInline(TabularInline):
    model = Region
    extra = 0
    show_change_link = True


class ZoneInline(TabularInline):
    model = Zone
    extra = 0
    show_change_link = True


@admin.register(Provider)
class ProviderAdmin(CatalogAdmin):
    list_display = ("name", "is_enabled", "description", "regions", "instance_types")
    search_fields = ("name", "description")
    readonly_fields = ("is_enabled",)
    inlines = (RegionInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        counts = {name: Count(name, distinct=True) for name in ("regions", "instance_types")}
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.annotate(**{f"{name}_count": count for name, count in counts.items()})

    @admin.display(description="enabled", boolean=True)
    def is_enabled(self, provider: Provider) -> bool:
        """Whether ENABLED_PROVIDERS names it: nothing is rented from the others."""
        return provider.name in settings.ENABLED_PROVIDERS

    @admin.display(description="regions", ordering="regions_count")
    def regions(self, provider: Provider) -> SafeString:
        return columns.list_link(Region, provider.regions_count, {"provider__id__exact": provider.pk})  # type: ignore[attr-defined]

    @admin.display(description="instance types", ordering="instance_types_count")
    def instance_types(self, provider: Provider) -> SafeString:
        return columns.list_link(InstanceType, provider.instance_types_count, {"provider__id__exact": provider.pk})  # type: ignore[attr-defined]


@admin.register(Region)
class RegionAdmin(CatalogAdmin):
    list_display = ("name", "provider_link", "zones")
    list_filter = ("provider",)
    list_select_related = ("provider",)
    search_fields = ("name", "provider__name")
    fixed = ("provider",)
    inlines = (ZoneInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Region]:
        rows: QuerySet[Region] = super().get_queryset(request)
        return rows.annotate(zones_count=Count("zones"))

    @admin.display(description="provider", ordering="provider__name")
    def provider_link(self, region: Region) -> SafeString:
        return columns.link(region.provider)

    @admin.display(description="zones", ordering="zones_count")
    def zones(self, region: Region) -> SafeString:
        return columns.list_link(Zone, region.zones_count, {"region__id__exact": region.pk})  # type: ignore[attr-defined]


@admin.register(Zone)
class ZoneAdmin(OffersAdmin):
    form = OffersOfZone
    list_display = ("name", "region_link", "provider_link", "offers")
    list_filter = ("region__provider", "region")
    search_fields = ("name", "region__name", "region__provider__name")
    fixed = ("region",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Zone]:
        rows: QuerySet[Zone] = super().get_queryset(request)
        return rows.select_related("region__provider").annotate(offers_count=Count("availabilities"))

    @admin.display(description="region", ordering="region__name")
    def region_link(self, zone: Zone) -> SafeString:
        return columns.link(zone.region)

    @admin.display(description="provider", ordering="region__provider__name")
    def provider_link(self, zone: Zone) -> SafeString:
        return columns.link(zone.region.provider)

    @admin.display(description="offers", ordering="offers_count")
    def offers(self, zone: Zone) -> int:
        count: int = zone.offers_count  # type: ignore[attr-defined]
        return count
