"""Money: what leaks now, the ledger of all that was ever billed, and when each place was last looked at."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from fleet import accounts, commands, costs
from fleet.admin import columns
from fleet.admin.actor import actor_of
from fleet.admin.read_only import ReadOnlyAdmin
from fleet.models import Leak, Rental, Sweep

_MISSED_SWEEPS = 3  # so many make a place stand out
_NO_ACCOUNT = uuid.UUID(int=0)  # null equals nothing, itself neither
_REASON_LENGTH = 90  # characters of a reason that a list shows


class _OpenOrEnded(admin.SimpleListFilter):
    """What costs money now, unless something else is asked for."""

    field = ""
    now, over = "", ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [("over", self.over), ("all", "All")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        for value, words in ((None, self.now), ("over", self.over), ("all", "All")):
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value} if value else {}, []),
                "display": words,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(**{f"{self.field}__isnull": self.value() != "over"})


class LeakingFilter(_OpenOrEnded):
    title = "state"
    parameter_name = "state"
    field = "ended_at"
    now, over = "Leaking now", "Over"


class BillingFilter(_OpenOrEnded):
    title = "billing"
    parameter_name = "billing"
    field = "until"
    now, over = "Billing now", "Gone"


class RentalColumns:
    """What a rented thing's row shows, in the ledger and where it leaks."""

    @admin.display(description="resource")
    def resource(self, row: Any) -> str:
        return str(_rental(row))

    @admin.display(description="where")
    def place(self, row: Any) -> SafeString:
        rental = _rental(row)
        where = format_html('<span class="inv-nowrap">{}<br>{}</span>', rental.provider, rental.zone)
        account = rental.account or rental.account_name
        return format_html("{}<br>account {}", where, account) if account else where

    @admin.display(description="price per hour")
    def price(self, row: Any) -> str:
        rental = _rental(row)
        if rental.price_per_hour is None:
            return columns.NOTHING
        return columns.price(rental.price_per_hour, rental.currency)

    @admin.display(description="cost so far")
    def cost(self, row: Any) -> str:
        return columns.amounts(costs.total([_rental(row)], now=timezone.now()))

    @admin.display(description="since")
    def since(self, row: Any) -> SafeString | str:
        return columns.moment(_rental(row).since, timezone.now())

    @admin.display(description="attempt")
    def attempt_link(self, row: Any) -> SafeString | str:
        attempt = _rental(row).attempt
        if attempt is None:
            return columns.NOTHING
        return columns.link(attempt, f"#{attempt.ordinal}")

    @admin.display(description="instance")
    def instance_link(self, row: Any) -> SafeString | str:
        attempt = _rental(row).attempt
        return columns.NOTHING if attempt is None else columns.link(attempt.instance, columns.short(attempt.instance))


@admin.register(Leak)
class LeakAdmin(RentalColumns, ReadOnlyAdmin):
    list_display = (
        "state",
        "resource",
        "place",
        "since",
        "price",
        "cost",
        "short_reason",
        "last_step",
    )
    list_display_links = ("resource",)
    change_list_template = "admin/fleet/summed_list.html"
    list_filter = (
        LeakingFilter,
        "rental__kind",
        ("rental__provider", admin.RelatedOnlyFieldListFilter),
        ("rental__zone", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("rental__provider", "rental__zone", "rental__account", "rental__attempt__instance")
    search_fields = ("rental__resource_id", "tag", "reason")
    search_help_text = "Id at the provider, the attempt that the tag names, reason"
    ordering = ("-found_at",)
    actions = ("destroy_anyway",)
    command_permission = "fleet.terminate_instance"
    fieldsets = (
        (None, {"fields": ("id", "state", "resource", "place", ("since", "price", "cost"))}),
        ("Whose", {"fields": ("reason", "tag", "server_id", ("instance_link", "attempt_link"), "ledger_link")}),
        ("Destruction", {"fields": ("found_at", "done", ("steps", "last_error"), "approved_by", "ended_at")}),
        ("Orchestrator", {"fields": (("next_attempt_at", "lock_expires_at"), ("volume_ids", "ip_ids"))}),
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        over = LeakingFilter.parameter_name in request.GET
        heading = {"title": "Money that leaked"} if over else {"title": "Money leaking now", "summary": _what_leaks()}
        return super().changelist_view(request, {**heading, **(extra_context or {})})

    @admin.action(description="Destroy these anyway", permissions=["command"])
    def destroy_anyway(self, request: HttpRequest, queryset: QuerySet[Leak]) -> None:
        """Let go what the brake holds. What somebody claims by then is left alone all the same."""
        chosen = list(queryset)
        count = commands.approve_leaks([leak.pk for leak in chosen], actor=actor_of(request), now=timezone.now())
        if not count:
            self.message_user(request, "Nothing to approve: over, or approved already.", messages.WARNING)
            return
        for leak in chosen:
            self.log_change(request, leak, "Destroy anyway.")
        what = "1 leak is" if count == 1 else f"{count} leaks are"
        self.message_user(request, f"{what} approved, and being destroyed unless somebody claims it.", messages.SUCCESS)

    @admin.display(description="state", ordering="ended_at")
    def state(self, leak: Leak) -> SafeString:
        if leak.ended_at is not None:
            return columns.badge("over", "quiet", title=leak.done)
        if leak.steps:
            return columns.badge("being destroyed", "warn")
        if leak.approved_by:
            return columns.badge("approved", "warn", title=f"By {leak.approved_by}")
        return columns.badge("waits", "bad", title=leak.done) if leak.done else columns.badge("leaking", "bad")

    @admin.display(description="reason", ordering="reason")
    def short_reason(self, leak: Leak) -> SafeString | str:
        return _shortened(leak.reason)

    @admin.display(description="last step")
    def last_step(self, leak: Leak) -> SafeString | str:
        """The error, which is younger than what was done, else that."""
        return _shortened(leak.last_error or leak.done)

    @admin.display(description="in the ledger")
    def ledger_link(self, leak: Leak) -> SafeString | str:
        return columns.link(leak.rental)


@admin.register(Rental)
class RentalAdmin(RentalColumns, ReadOnlyAdmin):
    change_list_template = "admin/fleet/summed_list.html"
    list_display = ("resource", "place", "instance_link", "since", "until", "price", "cost", "leak_link")
    list_filter = (
        BillingFilter,
        "kind",
        ("provider", admin.RelatedOnlyFieldListFilter),
        ("zone", admin.RelatedOnlyFieldListFilter),
    )
    list_select_related = ("provider", "zone", "account", "attempt__instance", "leak")
    search_fields = ("resource_id", "attempt__instance__id__istartswith")
    search_help_text = "Id at the provider, start of the instance's id"
    ordering = ("-since",)
    date_hierarchy = "since"
    fields = (
        "id",
        "resource",
        "place",
        ("instance_link", "attempt_link"),
        "leak_link",
        "since",
        "until",
        "price",
        "cost",
    )

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        heading = {} if BillingFilter.parameter_name in request.GET else {"summary": _what_bills()}
        return super().changelist_view(request, {**heading, **(extra_context or {})})

    @admin.display(description="leak", ordering="leak__ended_at")
    def leak_link(self, rental: Rental) -> SafeString | str:
        leak: Leak | None = getattr(rental, "leak", None)
        if leak is None:
            return columns.NOTHING
        return columns.link(leak, "leaks" if leak.ended_at is None else "leaked")


@admin.register(Sweep)
class SweepAdmin(ReadOnlyAdmin):
    list_display = ("zone", "provider_name", "account_in_words", "servers", "leaking", "swept", "complete", "error")
    list_filter = (("zone__region__provider", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("zone__region__provider", "account")
    ordering = ("zone__name",)
    fields = (
        "zone",
        "provider_name",
        "account_in_words",
        "known_since",
        "servers",
        "leaking",
        "swept_at",
        "complete_at",
        "last_error",
        "next_attempt_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Sweep]:
        rows: QuerySet[Sweep] = super().get_queryset(request)
        return rows.annotate(leaks=Coalesce(Subquery(_leaks_of_the_place()), 0))

    @admin.display(description="leaking", ordering="leaks")
    def leaking(self, sweep: Sweep) -> SafeString | str:
        count: int = sweep.leaks  # type: ignore[attr-defined] # annotated above
        return columns.list_link(Leak, count, {"rental__zone__id__exact": sweep.zone_id}) if count else "0"

    @admin.display(description="provider", ordering="zone__region__provider__name")
    def provider_name(self, sweep: Sweep) -> str:
        return sweep.zone.region.provider.name

    @admin.display(description="account")
    def account_in_words(self, sweep: Sweep) -> str:
        return sweep.account.name if sweep.account else accounts.OF_THE_SETTINGS

    @admin.display(description="last listing", ordering="swept_at")
    def swept(self, sweep: Sweep) -> SafeString | str:
        return _in_time(sweep, sweep.swept_at)

    @admin.display(description="last whole listing", ordering="complete_at")
    def complete(self, sweep: Sweep) -> SafeString | str:
        return _in_time(sweep, sweep.complete_at)

    @admin.display(description="error", ordering="last_error")
    def error(self, sweep: Sweep) -> SafeString | str:
        return _shortened(sweep.last_error)


def _what_leaks() -> str:
    leaks = list(Leak.objects.filter(ended_at=None).select_related("rental"))
    if not leaks:
        return "Nothing of ours bills without a row that claims it, as far as the sweeps have seen."
    rentals = [leak.rental for leak in leaks]
    so_far = columns.amounts(costs.total(rentals, now=timezone.now()))
    return (
        f"{len(leaks)} found, for {hourly(rentals)}, {so_far} so far. Each is destroyed without you, unless it waits: "
        "its last step says for what. Too many at once wait for you: choose those that are nobody's, to be destroyed."
    )


def _what_bills() -> str:
    rentals = Rental.objects.filter(until=None).only("price_per_hour", "currency")
    return f"{len(rentals)} billing now, {hourly(rentals)}."


def _leaks_of_the_place() -> QuerySet[Any, Any]:
    """How many things leak where the outer row sweeps; an account that is null is one too: that of the settings."""
    here = Leak.objects.annotate(account=Coalesce("rental__account", Value(_NO_ACCOUNT))).filter(
        ended_at=None, rental__zone=OuterRef("zone"), account=Coalesce(OuterRef("account"), Value(_NO_ACCOUNT))
    )
    return here.order_by().values("rental__zone").annotate(count=Count("pk")).values("count")


def _rental(row: Leak | Rental) -> Rental:
    return row.rental if isinstance(row, Leak) else row


def was_missed(sweep: Sweep, at: datetime | None, now: datetime) -> bool:
    """Whether what was last done at that time, if ever, should have been done again since."""
    late: bool = now - (at or sweep.known_since) > _MISSED_SWEEPS * timedelta(seconds=settings.RECONCILE_EVERY)
    return late


def hourly(rentals: Iterable[Rental]) -> str:
    return columns.per_hour((row.price_per_hour, row.currency) for row in rentals if row.price_per_hour is not None)


def _in_time(sweep: Sweep, at: datetime | None) -> SafeString | str:
    now = timezone.now()
    late = was_missed(sweep, at, now)
    if at is None:
        return columns.badge("never", "bad" if late else "busy")
    return columns.moment(at, now, "bad" if late else "good")


def _shortened(text: str) -> SafeString | str:
    if not text:
        return columns.NOTHING
    return format_html('<span title="{}">{}</span>', text, Truncator(text).chars(_REASON_LENGTH))
