"""Is this process alive, and can it serve? For load balancers, health checks and people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from fleet.models import ClockTick

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
        clocks = [_seen(tick, timezone.now()) for tick in ClockTick.objects.all()]
    except DatabaseError:
        return JsonResponse({"status": "unavailable", "database": "unreachable"}, status=503)
    healthy = bool(clocks) and all(clock["healthy"] for clock in clocks)
    return JsonResponse({"status": "ok" if healthy else "degraded", "database": "ok", "clocks": clocks})


def _seen(tick: ClockTick, now: datetime) -> dict[str, Any]:
    age = (now - tick.ticked_at).total_seconds()
    return {
        "name": tick.name,
        "ticked_at": tick.ticked_at,
        "age_seconds": round(age, 1),
        "period_seconds": tick.period_seconds,
        "healthy": age <= _MISSED_TICKS * tick.period_seconds,
    }
