"""How long usage is kept: rows for a time, sums for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis
from django.utils import timezone

from fleet import tasks
from routing.discovery.usage_stream import UsageStream
from routing.models import RejectedUsage, UsageHour, UsageRecord
from routing.usage.drain import drain
from routing.usage.retention import forget
from tests.routing.usage.told import NOW, tell, usage

pytestmark = pytest.mark.django_db


def test_old_rows_go_and_their_sums_stay(store: redis.Redis, stream: UsageStream) -> None:
    limit = NOW - timedelta(days=30)
    tell(store, *(usage(ended_at=(limit + timedelta(seconds=seconds)).timestamp()) for seconds in (-2, -1, 0, 1)))
    drain(stream, now=NOW)

    assert forget(before=limit) == 2

    assert sorted(UsageRecord.objects.values_list("ended_at", flat=True)) == [limit, limit + timedelta(seconds=1)]
    assert sum(UsageHour.objects.values_list("requests", flat=True)) == 4
    assert forget(before=limit) == 0


def test_it_deletes_the_oldest_first_and_a_bounded_number(store: redis.Redis, stream: UsageStream) -> None:
    for at in range(3):
        tell(store, *(usage(ended_at=NOW.timestamp() - at) for _ in range(5000)))
    drain(stream, now=NOW)

    assert forget(before=NOW + timedelta(seconds=1), rounds=1) == 10_000

    assert set(UsageRecord.objects.values_list("ended_at", flat=True)) == {NOW}


def test_what_was_put_aside_goes_as_well() -> None:
    for ordinal, days in enumerate((31, 29)):
        at = NOW - timedelta(days=days)
        RejectedUsage.objects.create(entry="1-0", ordinal=ordinal, reason="no lines", line="", rejected_at=at)
    forget(before=NOW - timedelta(days=30))
    assert RejectedUsage.objects.get().ordinal == 1


def test_the_clock_keeps_as_many_days_as_are_set(store: redis.Redis, stream: UsageStream, settings: Any) -> None:
    settings.USAGE_KEPT_DAYS = 3
    now = timezone.now()
    tell(store, *(usage(ended_at=(now - timedelta(days=days)).timestamp()) for days in (2, 4)))
    drain(stream, now=now)

    tasks.forget_usage()

    assert UsageRecord.objects.get().ended_at == now - timedelta(days=2)
