"""Attempts, transitions, refused heartbeats and clock ticks: what has happened."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString

from fleet.admin import columns
from fleet.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from fleet.models import Attempt, ClockTick, HeartbeatRefusal, Transition

_MISSED_TICKS = 3  # so many make the orchestrator unhealthy


class AttemptColumns:
    """What an attempt's row shows, in the list and on its instance's page."""

    @admin.display(description="attempt", ordering="ordinal")
    def number(self, attempt: Attempt) -> SafeString | str:
        return columns.link(attempt, f"#{attempt.ordinal}")

    @admin.display(description="outcome", ordering="outcome")
    def outcome_badge(self, attempt: Attempt) -> SafeString:
        return columns.outcome_badge(attempt.outcome)

    @admin.display(description="instance", ordering="instance")
    def instance_link(self, attempt: Attempt) -> SafeString | str:
        return columns.link(attempt.instance, columns.short(attempt.instance))

    @admin.display(description="type", ordering="instance_type__name")
    def type_link(self, attempt: Attempt) -> SafeString | str:
        return columns.link(attempt.instance_type)

    @admin.display(description="zone", ordering="zone__name")
    def zone_link(self, attempt: Attempt) -> SafeString | str:
        return columns.link(attempt.zone)

    @admin.display(description="account")
    def account_in_words(self, attempt: Attempt) -> str:
        return attempt.account_in_words

    @admin.display(description="price per hour", ordering="price_per_hour")
    def price(self, attempt: Attempt) -> str:
        price = columns.price(attempt.price_per_hour, attempt.currency)
        return f"{price} (spot)" if attempt.spot else price


class AttemptInline(AttemptColumns, ReadOnlyInline):
    model = Attempt
    fields = readonly_fields = (
        "number",
        "outcome_badge",
        "type_link",
        "zone_link",
        "account_in_words",
        "price",
        "error_code",
        "detail",
        "started_at",
    )

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).select_related("instance_type", "zone", "account")


@admin.register(Attempt)
class AttemptAdmin(AttemptColumns, ReadOnlyAdmin):
    list_display = (
        "started_at",
        "instance_link",
        "number",
        "outcome_badge",
        "type_link",
        "zone_link",
        "account_in_words",
        "price",
        "error_code",
    )
    list_filter = (
        "outcome",
        "error_code",
        ("zone", admin.RelatedOnlyFieldListFilter),
        ("instance_type", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("instance", "instance_type", "zone", "account")
    search_fields = ("instance__id__istartswith", "server_id", "detail")
    search_help_text = "Start of the instance's id, the machine's id at the provider, what the provider said"
    ordering = ("-started_at",)
    date_hierarchy = "started_at"
    fieldsets = (
        (None, {"fields": ("id", "instance_link", "ordinal", "outcome_badge", "error_code", "detail")}),
        ("Offer", {"fields": ("type_link", "zone_link", "price")}),
        ("Account", {"fields": ("account_in_words",)}),
        ("Machine", {"fields": ("server_id", "volume_ids", "ip_ids", "authorized_keys", "bootstrap_used_at")}),
        ("Times", {"fields": ("started_at", "asked_at", "ended_at")}),
    )


class TransitionColumns:
    @admin.display(description="from", ordering="from_status")
    def from_badge(self, transition: Transition) -> SafeString | str:
        return columns.status_badge(transition.from_status)

    @admin.display(description="to", ordering="to_status")
    def to_badge(self, transition: Transition) -> SafeString | str:
        return columns.status_badge(transition.to_status)

    @admin.display(description="instance", ordering="instance")
    def instance_link(self, transition: Transition) -> SafeString | str:
        return columns.link(transition.instance, columns.short(transition.instance))


class TransitionInline(TransitionColumns, ReadOnlyInline):
    model = Transition
    fields = readonly_fields = ("at", "from_badge", "to_badge", "reason", "actor")


@admin.register(Transition)
class TransitionAdmin(TransitionColumns, ReadOnlyAdmin):
    list_display = ("at", "instance_link", "from_badge", "to_badge", "reason", "actor")
    list_filter = ("to_status", "from_status")
    list_select_related = ("instance",)
    search_fields = ("instance__id__istartswith", "reason", "actor")
    search_help_text = "Start of the instance's id, reason, actor"
    ordering = ("-at", "-id")
    date_hierarchy = "at"
    fields = ("at", "instance_link", "from_badge", "to_badge", "reason", "actor")


class HeartbeatRefusalInline(ReadOnlyInline):
    model = HeartbeatRefusal
    verbose_name_plural = "refused heartbeats"
    fields = readonly_fields = ("reason", "address", "times", "first_at", "last_at")


@admin.register(ClockTick)
class ClockTickAdmin(ReadOnlyAdmin):
    list_display = ("name", "period", "ticked_at", "last_tick")
    fields = ("name", "period", "ticked_at", "last_tick")
    list_display_links = None

    @admin.display(description="period", ordering="period_seconds")
    def period(self, tick: ClockTick) -> str:
        return f"{tick.period_seconds:g} s"

    @admin.display(description="last tick", ordering="ticked_at")
    def last_tick(self, tick: ClockTick) -> SafeString | str:
        now = timezone.now()
        return columns.moment(tick.ticked_at, now, "bad" if is_late(tick, now) else "good")


def is_late(tick: ClockTick, now: datetime) -> bool:
    late: bool = now - tick.ticked_at > _MISSED_TICKS * timedelta(seconds=tick.period_seconds)
    return late
