"""How many calls the mock cloud takes in a second, over all processes, and a count of those that it did and did not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from fleet.providers.mock.store import Books, Calls


def admit(books: Books, *, calls_per_second: float, now: datetime) -> bool:
    """Whether this call is taken: a bucket of one second's calls, as the clouds have. 0 a second: as many as come."""
    if not calls_per_second:
        return True
    calls = _until_now(books.last_calls(), calls_per_second, now.timestamp())
    allowed = calls.tokens >= 1
    if allowed:
        books.count(replace(calls, allowed=calls.allowed + 1, tokens=calls.tokens - 1))
    else:
        books.count(replace(calls, throttled=calls.throttled + 1))
    return allowed


def _until_now(last: Calls | None, rate: float, now: float) -> Calls:
    most = max(rate, 1.0)
    if last is None:
        return Calls(second=int(now), allowed=0, throttled=0, tokens=most, at=now)
    now = max(now, last.at)
    tokens = min(most, last.tokens + (now - last.at) * rate)
    if int(now) == last.second:
        return replace(last, tokens=tokens, at=now)
    return Calls(second=int(now), allowed=0, throttled=0, tokens=tokens, at=now)
