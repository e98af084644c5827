"""What was called: the sums of hours, single requests while they are kept, and what could not be counted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst

from routing import money
from routing.models import ApiKey, RejectedUsage, UsageHour, UsageRecord
from routing.usage import report
from routing.usage.budgets import beginning_of_month
from routing.usage.report import Totals

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin

_NOTHING = "–"


class _Choice(admin.SimpleListFilter):
    """Its first choice holds unless another one is made."""

    options: ClassVar[Sequence[tuple[str | None, str]]] = ()

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(value, words) for value, words in self.options if value is not None]

    def choices(self, changelist: Any) -> Any:
        for value, words in self.options:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value} if value else {}, []),
                "display": words,
            }


class MonthFilter(_Choice):
    title = "time"
    parameter_name = "time"
    options = ((None, "This month"), ("last", "Last month"), ("all", "All"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        this = beginning_of_month(timezone.now())
        match self.value():
            case "all":
                return queryset
            case "last":
                return queryset.filter(hour__gte=beginning_of_month(this - timedelta(days=1)), hour__lt=this)
        return queryset.filter(hour__gte=this)


class RecentFilter(_Choice):
    """All of them would be counted, row by row, on each look."""

    title = "time"
    parameter_name = "time"
    options = ((None, "The last hour"), ("day", "The last day"), ("all", "All that are kept"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        span = timedelta(days=1) if self.value() == "day" else timedelta(hours=1)
        return queryset.filter(ended_at__gte=timezone.now() - span)


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("answered", "Answered"), ("errors", "Errors"), ("left", "Left by the client (499)")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "answered":
                return queryset.filter(status__lt=report.FROM_THIS_STATUS_ON)
            case "errors":
                return queryset.filter(status__gte=report.FROM_THIS_STATUS_ON)
            case "left":
                return queryset.filter(status=499)
        return queryset


class _ReadOnly(_ModelAdmin):
    list_per_page = 50
    show_full_result_count = False  # counts every row of tables that only grow

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "POST":  # there is no action that could be meant
            raise PermissionDenied
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})


class _Usage(_ReadOnly):
    change_list_template = "admin/routing/summed_list.html"
    search_fields = ("model_id",)
    search_help_text = "A part of the model's id, or of the key's name"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        name = ApiKey.objects.filter(pk=OuterRef("key_id")).values("name")
        rows: QuerySet[Any] = report.visible(super().get_queryset(request), request.user)
        named: QuerySet[Any] = rows.annotate(key_name=Subquery(name))
        return named

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term:
            return queryset, False
        keys = ApiKey.objects.filter(name__icontains=search_term).values("pk")
        return queryset.filter(Q(model_id__icontains=search_term) | Q(key_id__in=keys)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        changelist = getattr(response, "context_data", {}).get("cl")
        if changelist is not None:  # else Django leads to where the filters make sense
            response.context_data["summary"] = self.summary(changelist.queryset)  # type: ignore[attr-defined]
        return response

    def summary(self, rows: QuerySet[Any]) -> str:
        """What all rows of the list have in sum, on whatever page."""
        raise NotImplementedError

    @admin.display(description="key")
    def key(self, row: Any) -> SafeString | str:
        if row.key_name is None:
            return format_html('<span title="{}">gone</span>', row.key_id)
        url = reverse("admin:routing_apikey_change", args=[row.key_id])
        return format_html('<a href="{}">{}</a>', url, row.key_name)

    @admin.display(description="cost", ordering="cost_micros")
    def cost(self, row: Any) -> str:
        return in_words(money.amount(row.cost_micros))


@admin.register(UsageHour)
class UsageHourAdmin(_Usage):
    list_display = (
        "hour",
        "key",
        "model_id",
        "operation",
        "status",
        "requests",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "cost",
        "mean_first_token",
        "mean_duration",
    )
    list_filter = (MonthFilter, OutcomeFilter, "operation")
    ordering = ("-hour", "pk")
    fields = (*list_display, "estimated")
    readonly_fields = fields

    def summary(self, rows: QuerySet[UsageHour]) -> str:
        return _summary(report.totals(rows))

    @admin.display(description="mean time to first token (ms)")
    def mean_first_token(self, hour: UsageHour) -> str:
        return f"{hour.first_token_ms / hour.first_tokens:,.0f}" if hour.first_tokens else _NOTHING

    @admin.display(description="mean duration (ms)")
    def mean_duration(self, hour: UsageHour) -> str:
        return f"{hour.duration_ms / hour.requests:,.0f}" if hour.requests else _NOTHING


@admin.register(UsageRecord)
class UsageRecordAdmin(_Usage):
    list_display = (
        "ended_at",
        "key",
        "model_id",
        "operation",
        "status",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
        "cost",
        "first_token_ms",
        "duration_ms",
    )
    list_filter = (RecentFilter, OutcomeFilter, "streamed", "estimated")
    ordering = ("-ended_at", "pk")
    fields = ("usage_id", *list_display, "instance_id", "streamed", "estimated")
    readonly_fields = fields

    def summary(self, rows: QuerySet[UsageRecord]) -> str:
        sums = rows.order_by().aggregate(
            all_requests=Count("pk"),
            errors=Count("pk", filter=Q(status__gte=report.FROM_THIS_STATUS_ON)),
            all_estimated=Count("pk", filter=Q(estimated=True)),
            all_first_tokens=Count("first_token_ms"),
            **{
                f"all_{column}": Sum(column, default=0)
                for column in (
                    *("input_tokens", "output_tokens", "cached_tokens"),
                    *("cost_micros", "duration_ms", "first_token_ms"),
                )
            },
        )
        return _summary(Totals.of(sums))


@admin.register(RejectedUsage)
class RejectedUsageAdmin(_ReadOnly):
    list_display = ("rejected_at", "entry", "ordinal", "reason")
    search_fields = ("reason", "line", "entry")
    fields = ("rejected_at", "entry", "ordinal", "reason", "line")


def month_so_far(key: ApiKey, now: datetime) -> str:
    """What a key has taken this month, beside its budgets."""
    sums = report.totals(UsageHour.objects.filter(key_id=key.pk, hour__gte=beginning_of_month(now)))
    tokens = _of(sums.input_tokens + sums.output_tokens, key.monthly_token_budget)
    return f"{sums.requests:,} requests, {tokens} tokens, {_of(sums.cost, key.monthly_budget)} in money"


def in_words(amount: Decimal) -> str:
    """With at least two decimals, and no more than it has."""
    exponent = amount.normalize().as_tuple().exponent
    return f"{amount:,.{max(2, -exponent) if isinstance(exponent, int) else 2}f}"


def _summary(totals: Totals) -> str:
    return (
        f"{totals.requests:,} requests, {totals.errors:,} of them errors; {totals.input_tokens:,} tokens in "
        f"({totals.cached_tokens:,} cached), {totals.output_tokens:,} out; {in_words(totals.cost)} in money."
    )


def _of(used: int | Decimal, budget: int | Decimal | None) -> str:
    words = in_words(used) if isinstance(used, Decimal) else f"{used:,}"
    return words if budget is None else f"{words} of {budget:,} ({100 * used / budget:.0f} %)"
