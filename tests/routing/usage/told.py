"""What the routers tell, for a test: usages, and the stream that they lie in."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime

import redis

from routing.discovery import keys
from routing.discovery.records import Usage

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
KEY, OTHER_KEY = (str(uuid.UUID(int=number)) for number in (1, 2))
MODEL = "acme/small"

_ONE = Usage(
    usage_id="",
    ended_at=NOW.timestamp(),
    key_id=KEY,
    model_id=MODEL,
    instance_id=str(uuid.UUID(int=9)),
    operation="chat",
    status=200,
    streamed=True,
    input_tokens=100,
    output_tokens=20,
    cached_tokens=50,
    estimated=False,
    first_token_ms=30,
    duration_ms=900,
    cost_micros=1234,
)


def usage(**fields: object) -> Usage:
    return replace(_ONE, **{"usage_id": uuid.uuid4().hex, **fields})  # type: ignore[arg-type]


def tell(store: redis.Redis, *usages: Usage) -> None:
    """One entry, as a router writes it."""
    tell_raw(store, "\n".join(each.to_line() for each in usages))


def tell_raw(store: redis.Redis, lines: str | bytes) -> None:
    store.xadd(keys.USAGE, {"lines": lines})
