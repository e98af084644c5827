"""Sums of usage, for whoever may see them. They are made of whole hours (UTC)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self, TypeVar

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay

from routing import money
from routing.models import ApiKey, UsageHour, UsageRecord

Row = TypeVar("Row", UsageHour, UsageRecord)

FROM_THIS_STATUS_ON = 400  # a request counts as an error: refused, failed, or left by its client (499)

# What sums can be grouped by, and the column of the group.
GROUPS: Mapping[str, Any] = {
    "key": F("key_id"),
    "model": F("model_id"),
    "operation": F("operation"),
    "hour": F("hour"),
    "day": TruncDay("hour", tzinfo=UTC),
}
_SUMS = {
    "all_requests": Sum("requests", default=0),
    "errors": Sum("requests", default=0, filter=Q(status__gte=FROM_THIS_STATUS_ON)),
    **{
        f"all_{column}": Sum(column, default=0)
        for column in (
            "estimated",
            "input_tokens",
            "output_tokens",
            "cached_tokens",
            "cost_micros",
            "duration_ms",
            "first_token_ms",
            "first_tokens",
        )
    },
}


@dataclass(frozen=True, slots=True)
class Totals:
    requests: int
    errors: int
    estimated: int  # requests whose tokens the router has estimated
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: Decimal
    mean_duration_ms: int | None  # None: there was no request
    mean_first_token_ms: int | None  # None: none of the answers began

    @classmethod
    def of(cls, sums: Mapping[str, Any]) -> Self:
        return cls(
            requests=sums["all_requests"],
            errors=sums["errors"],
            estimated=sums["all_estimated"],
            input_tokens=sums["all_input_tokens"],
            output_tokens=sums["all_output_tokens"],
            cached_tokens=sums["all_cached_tokens"],
            cost=money.amount(sums["all_cost_micros"]),
            mean_duration_ms=_mean(sums["all_duration_ms"], sums["all_requests"]),
            mean_first_token_ms=_mean(sums["all_first_token_ms"], sums["all_first_tokens"]),
        )


def visible(rows: QuerySet[Row], user: AbstractBaseUser | AnonymousUser) -> QuerySet[Row]:
    """Who may see the users may see what all of them used; everybody else what his own keys did."""
    if user.has_perm("accounts.view_user"):  # type: ignore[union-attr] # ours has it
        return rows
    return rows.filter(key_id__in=ApiKey.objects.filter(owner=user.pk).values("pk"))


def totals(hours: QuerySet[UsageHour]) -> Totals:
    return Totals.of(hours.order_by().aggregate(**_SUMS))


def grouped(hours: QuerySet[UsageHour], groups: Sequence[str]) -> QuerySet[UsageHour, Any]:
    """Rows with the groups' names as `by_...` and what `Totals.of` takes, ordered by the groups."""
    by = {f"by_{group}": GROUPS[group] for group in groups}
    return hours.order_by().values(**by).annotate(**_SUMS).order_by(*by)


def first_hour(at: datetime) -> datetime:
    """The beginning of the hour that the instant lies in."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _mean(total: int, count: int) -> int | None:
    return round(total / count) if count else None
