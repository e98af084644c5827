"""What a key may: its models and its limits, as the client is told of them in OpenAI's headers and errors."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

from routing.discovery.directory import Admission, Refused
from routing.discovery.records import Allowance, ClientKey
from routing.router import errors
from routing.router.asgi import Headers
from routing.router.call import Question
from routing.router.errors import ApiError

_DAY = 24 * 3600
_EXPLAINED = {
    "requests": "Rate limit reached: {limit} requests a minute",
    "tokens": "Rate limit reached: {limit} tokens a minute",
    "concurrency": "Rate limit reached: {limit} requests at the same time",
}


def admission(key: ClientKey, question: Question) -> Admission | None:
    """None: the key has no limits, so nothing is to be counted."""
    if not key.is_limited:
        return None
    tokens = question.token_estimate if key.tokens_per_minute else 0
    return Admission(key=key, tokens=tokens, month=_month(int(time.time()) // _DAY))


def may_call(key: ClientKey, model_id: str) -> bool:
    return not key.models or model_id in key.models


def refusal(key: ClientKey, refused: Refused) -> ApiError:
    if refused.what == "budget":
        return errors.budget_used_up()
    limits = {"requests": key.requests_per_minute, "tokens": key.tokens_per_minute, "concurrency": key.concurrency}
    message = _EXPLAINED[refused.what].format(limit=limits[refused.what])
    retry_after = max(1, -(-refused.retry_after_ms // 1000))
    return errors.rate_limited(message, retry_after=retry_after, headers=tuple(headers(key, refused.allowance)))


def headers(key: ClientKey, allowance: Allowance) -> Headers:
    """`x-ratelimit-*`, as OpenAI sends them; of limits that the key does not have, nothing."""
    found: Headers = []
    if key.requests_per_minute:
        found += _headers(b"requests", key.requests_per_minute, allowance.requests, allowance.requests_full_in)
    if key.tokens_per_minute:
        found += _headers(b"tokens", key.tokens_per_minute, allowance.tokens, allowance.tokens_full_in)
    return found


def _headers(what: bytes, limit: int, left: int, full_in: int) -> Headers:
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % left),
        (b"x-ratelimit-reset-" + what, _duration(full_in)),
    ]


def _duration(ms: int) -> bytes:
    """As OpenAI writes it: "350ms", "6s", "1m30.5s"."""
    if ms < 1000:
        return b"%dms" % ms
    minutes, rest = divmod(ms, 60_000)
    seconds = b"%gs" % (rest / 1000)
    return b"%dm%b" % (minutes, seconds) if minutes else seconds


@lru_cache(maxsize=2)
def _month(day: int) -> str:
    """`day`: since the epoch."""
    return datetime.fromtimestamp(day * _DAY, UTC).strftime("%Y-%m")
