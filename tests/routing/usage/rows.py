"""Usage as it lies in Postgres."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from routing.models import UsageHour, UsageRecord
from routing.usage.report import first_hour


def hour(**fields: Any) -> UsageHour:
    """An hour's ten requests: 1,000 tokens in, 200 out, 0.05 in money."""
    usual = {
        "hour": first_hour(timezone.now()),
        "key_id": uuid.UUID(int=1),
        "model_id": "acme/small",
        "operation": "chat",
        "status": 200,
        "requests": 10,
        "estimated": 1,
        "input_tokens": 1000,
        "output_tokens": 200,
        "cached_tokens": 300,
        "cost_micros": 50_000,
        "duration_ms": 9_000,
        "first_token_ms": 400,
        "first_tokens": 8,
    }
    return UsageHour.objects.create(**{**usual, **fields})


def record(**fields: Any) -> UsageRecord:
    usual = {
        "usage_id": uuid.uuid4(),
        "ended_at": timezone.now(),
        "key_id": uuid.UUID(int=1),
        "model_id": "acme/small",
        "instance_id": uuid.UUID(int=9),
        "operation": "chat",
        "status": 200,
        "streamed": True,
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 50,
        "estimated": False,
        "first_token_ms": 30,
        "duration_ms": 900,
        "cost_micros": 1234,
    }
    return UsageRecord.objects.create(**{**usual, **fields})
