"""Is this process alive, and can it serve? For load balancers, health checks and people."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Min
from django.db.models.functions import Coalesce
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from fleet.models import ClockTick, Sweep

_MISSED_TICKS = 3


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers."""
    return JsonResponse({"status": "ok"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """503 while the database can't be reached. A late orchestrator is told, but does not stop the API."""
    try:
        connection.ensure_connection()
        now = timezone.now()
        clocks = [_seen(tick, now) for tick in ClockTick.objects.all()]
        sweeps = _sweeps(now)
    except DatabaseError:
        return JsonResponse({"status": "unavailable", "database": "unreachable"}, status=503)
    healthy = bool(clocks) and all(clock["healthy"] for clock in clocks) and sweeps["healthy"]
    status = "ok" if healthy else "degraded"
    return JsonResponse({"status": status, "database": "ok", "clocks": clocks, "sweeps": sweeps})


def _seen(tick: ClockTick, now: datetime) -> dict[str, Any]:
    age = (now - tick.ticked_at).total_seconds()
    return {
        "name": tick.name,
        "ticked_at": tick.ticked_at,
        "age_seconds": round(age, 1),
        "period_seconds": tick.period_seconds,
        "healthy": age <= _MISSED_TICKS * tick.period_seconds,
    }


def _sweeps(now: datetime) -> dict[str, Any]:
    """Whether every place is looked at in time. A provider that does not answer is not our ill health: that alarms."""
    places = Sweep.objects.annotate(at=Coalesce("swept_at", "known_since"))
    seen = places.aggregate(count=Count("pk"), oldest=Min("at"))
    limit = now - _MISSED_TICKS * timedelta(seconds=settings.RECONCILE_EVERY)
    oldest: datetime | None = seen["oldest"]
    return {"places": seen["count"], "oldest_sweep": oldest, "healthy": oldest is None or oldest > limit}
