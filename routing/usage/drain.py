"""From the routers' stream into Postgres: at least once, and counted once.

1. The oldest entries are read, and stay where they are.
2. In one transaction their lines become rows, and the rows that are new become sums. A row's key is the line's own id,
   so that a line that is there already adds nothing.
3. After the commit the entries are deleted.

A crash between two of these, a second reader, a line that a router sent twice: all come to the same. While Postgres is
away the stream grows; while Redis is away nothing is lost here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import redis
from django.conf import settings
from django.db import connection, transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

from routing.discovery.records import Usage
from routing.discovery.usage_stream import Entry, UsageStream
from routing.models import RejectedUsage
from routing.usage.lines import Malformed, parse

log = logging.getLogger(__name__)

_ROUNDS = 5
_LINES_A_ROUND = 10_000
_REJECTS_KEPT = 1000  # a router that is at fault must not fill the database
_SHOWN = 2000  # characters of a line that is put aside

_NULL = "\\N"
# The stream's columns are the table's, by the same names.
_COPY = f"COPY incoming_usage ({', '.join(Usage.__slots__)}) FROM STDIN"
_INCOMING = "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_usage (LIKE usage_records) ON COMMIT DELETE ROWS"
# In the order of their keys: two readers that insert the same lines wait for each other, and never in a circle.
_COUNT = """
    WITH fresh AS (
        INSERT INTO usage_records SELECT * FROM incoming_usage ORDER BY usage_id ON CONFLICT DO NOTHING RETURNING *
    ), summed AS (
        INSERT INTO usage_hours (
            hour, key_id, model_id, operation, status, requests, estimated, input_tokens, output_tokens, cached_tokens,
            cost_micros, duration_ms, first_token_ms, first_tokens
        )
        SELECT date_trunc('hour', ended_at, 'UTC'), key_id, model_id, operation, status, count(*),
               count(*) FILTER (WHERE estimated), sum(input_tokens), sum(output_tokens), sum(cached_tokens),
               sum(cost_micros), sum(duration_ms), coalesce(sum(first_token_ms), 0), count(first_token_ms)
        FROM fresh GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT (hour, key_id, model_id, operation, status) DO UPDATE SET
            requests = usage_hours.requests + excluded.requests,
            estimated = usage_hours.estimated + excluded.estimated,
            input_tokens = usage_hours.input_tokens + excluded.input_tokens,
            output_tokens = usage_hours.output_tokens + excluded.output_tokens,
            cached_tokens = usage_hours.cached_tokens + excluded.cached_tokens,
            cost_micros = usage_hours.cost_micros + excluded.cost_micros,
            duration_ms = usage_hours.duration_ms + excluded.duration_ms,
            first_token_ms = usage_hours.first_token_ms + excluded.first_token_ms,
            first_tokens = usage_hours.first_tokens + excluded.first_tokens
    )
    SELECT count(*) FROM fresh
"""
# A key that somebody is changing is left for the next time: nobody waits for this, and this for nobody.
_MARK_USED = """
    WITH free AS (
        SELECT api_keys.id, used.at
        FROM unnest(%s::uuid[], %s::timestamptz[]) AS used(id, at) JOIN api_keys USING (id)
        WHERE last_used_at IS NULL OR last_used_at < used.at - interval '1 minute'
        FOR UPDATE OF api_keys SKIP LOCKED
    )
    UPDATE api_keys SET last_used_at = free.at FROM free WHERE api_keys.id = free.id
"""


@dataclass(frozen=True, slots=True)
class Drained:
    entries: int = 0
    counted: int = 0  # lines that had not been counted before
    rejected: int = 0

    def __add__(self, other: Drained) -> Drained:
        return Drained(self.entries + other.entries, self.counted + other.counted, self.rejected + other.rejected)


@cache
def routers_stream() -> UsageStream:
    """That of a running system."""
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0)
    )
    return UsageStream(client)


def drain(stream: UsageStream, *, now: datetime, rounds: int = _ROUNDS) -> Drained:
    """Count what is in the stream, at most `rounds` transactions of about 10,000 lines.

    Raises redis.RedisError, django.db.Error: what was not counted is there the next time, and so is what was counted
    and could not be deleted.
    """
    total = Drained()
    for _ in range(rounds):
        entries = stream.read(lines=_LINES_A_ROUND)
        if not entries:
            break
        total += _write_down(entries, now)
        stream.forget(entries)
    return total


def _write_down(entries: Sequence[Entry], now: datetime) -> Drained:
    usages: list[Usage] = []
    rejects: list[RejectedUsage] = []
    for entry in entries:
        _sort(entry, usages, rejects, now)
    with transaction.atomic():
        counted = _count(usages) if usages else 0
        _put_aside(rejects)
    _mark_used(usages)
    return Drained(entries=len(entries), counted=counted, rejected=len(rejects))


def _sort(entry: Entry, usages: list[Usage], rejects: list[RejectedUsage], now: datetime) -> None:
    if entry.lines is None:
        rejects.append(RejectedUsage(entry=entry.entry_id, ordinal=0, reason="no lines", line="", rejected_at=now))
    for ordinal, line in enumerate(entry.lines or (), start=1):
        try:
            usages.append(parse(line, now=now))
        except Malformed as fault:
            rejects.append(_reject(entry, ordinal, line, str(fault), now))


def _reject(entry: Entry, ordinal: int, line: bytes, reason: str, now: datetime) -> RejectedUsage:
    shown = line[:_SHOWN].decode(errors="backslashreplace").replace("\0", "\\0")
    return RejectedUsage(entry=entry.entry_id, ordinal=ordinal, reason=reason[:_SHOWN], line=shown, rejected_at=now)


def _count(usages: Iterable[Usage]) -> int:
    """Returns how many of them are new."""
    with connection.cursor() as cursor:
        cursor.execute(_INCOMING)
        with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
            copy.write("".join(map(_copied, usages)))
        cursor.execute(_COUNT)
        (counted,) = cursor.fetchone()
        # Within a transaction of the caller's there may be a next time.
        cursor.execute("TRUNCATE incoming_usage")
    return int(counted)


def _copied(usage: Usage) -> str:
    """As COPY reads it. Nothing in a checked line needs to be escaped."""
    first_token_ms = str(usage.first_token_ms) if usage.first_token_ms >= 0 else _NULL
    return (
        f"{usage.usage_id}\t{datetime.fromtimestamp(usage.ended_at, UTC).isoformat()}\t{usage.key_id}"
        f"\t{usage.model_id}\t{usage.instance_id}\t{usage.operation}\t{usage.status}\t{usage.streamed}"
        f"\t{usage.input_tokens}\t{usage.output_tokens}\t{usage.cached_tokens}\t{usage.estimated}"
        f"\t{first_token_ms}\t{usage.duration_ms}\t{usage.cost_micros}\n"
    )


def _put_aside(rejects: Sequence[RejectedUsage]) -> None:
    if not rejects:
        return
    log.error("ALARM: %s lines of usage can't be counted, the first because %s", len(rejects), rejects[0].reason)
    room = max(0, _REJECTS_KEPT - RejectedUsage.objects.count())
    RejectedUsage.objects.bulk_create(rejects[:room], ignore_conflicts=True)


def _mark_used(usages: Iterable[Usage]) -> None:
    used: dict[str, float] = {}
    for usage in usages:
        used[usage.key_id] = max(usage.ended_at, used.get(usage.key_id, 0))
    if used:
        with connection.cursor() as cursor:
            cursor.execute(_MARK_USED, [list(used), [datetime.fromtimestamp(at, UTC) for at in used.values()]])
