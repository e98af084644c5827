"""A beat job runs once at a time however many beats there are, and leaves a trace of when it last ran."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.utils import timezone

from fleet.models import ClockTick


@contextmanager
def tick(name: str, *, period_seconds: float) -> Iterator[bool]:
    """Yields whether this is the only tick of that name now; if not, leave it to the other one."""
    key = zlib.crc32(name.encode())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [key])
        (mine,) = cursor.fetchone()
    try:
        yield bool(mine)
        if mine:
            ClockTick.objects.update_or_create(
                name=name, defaults={"period_seconds": period_seconds, "ticked_at": timezone.now()}
            )
    finally:
        if mine:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [key])
