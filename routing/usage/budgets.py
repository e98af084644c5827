"""What keys have spent this month, as far as it has come to Postgres: some seconds behind what the routers count."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from datetime import UTC, datetime

from django.db.models import F, Q, Sum

from routing.discovery.spending import Spent, month_of
from routing.models import ApiKey, UsageHour


def spent(*, now: datetime) -> list[Spent]:
    """By every usable key that has a monthly budget and was used this month."""
    with_budget = Q(monthly_token_budget__isnull=False) | Q(monthly_budget__isnull=False)
    ids = ApiKey.objects.for_the_router(now).filter(with_budget).values_list("pk", flat=True)
    return spent_by(list(ids), now=now)


def spent_by(key_ids: Collection[uuid.UUID], *, now: datetime) -> list[Spent]:
    """By those of these keys that were used this month."""
    sums = (
        UsageHour.objects.filter(key_id__in=key_ids, hour__gte=beginning_of_month(now))
        .order_by()
        .values("key_id")
        .annotate(tokens=Sum(F("input_tokens") + F("output_tokens")), micros=Sum("cost_micros"))
    )
    month = month_of(now)
    return [Spent(str(row["key_id"]), month, tokens=row["tokens"], micros=row["micros"]) for row in sums]


def beginning_of_month(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
