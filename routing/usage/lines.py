"""A line of the stream, checked so well that Postgres takes whatever passes: one bad line must not hold up the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from routing.discovery.records import Usage

_UUID = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.ASCII)
_MOST = 2**31 - 1
_BOUNDS = {
    "status": (100, 999),
    "input_tokens": (0, _MOST),
    "output_tokens": (0, _MOST),
    "cached_tokens": (0, _MOST),
    "first_token_ms": (-1, _MOST),
    "duration_ms": (0, _MOST),
    "cost_micros": (0, 10**15),
}
_LENGTHS = {"model_id": 255, "operation": 40}
_EARLIEST = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
_SKEW = timedelta(days=1)  # by which a router's clock may be ahead of ours


class Malformed(Exception):
    """This line can't be counted: put it aside. The text says what is wrong with it."""


def parse(line: bytes, *, now: datetime) -> Usage:
    """Raises Malformed."""
    try:
        usage = Usage.from_line(line)
    except (ValueError, TypeError, RecursionError) as error:
        raise Malformed(f"not a line of usage: {error}") from None
    for fault in _faults(usage, latest=(now + _SKEW).timestamp()):
        raise Malformed(fault)
    return usage


def _faults(usage: Usage, *, latest: float) -> Iterator[str]:
    for name in ("usage_id", "key_id", "instance_id"):
        value = getattr(usage, name)
        if not (isinstance(value, str) and _UUID.fullmatch(value)):
            yield f"{name} is no UUID: {value!r}"
    for name, longest in _LENGTHS.items():
        value = getattr(usage, name)
        # A backslash is COPY's own escape, and in no name.
        if not (isinstance(value, str) and 0 < len(value) <= longest and value.isprintable() and "\\" not in value):
            yield f"{name} is no name: {value!r}"
    for name, (least, most) in _BOUNDS.items():
        value = getattr(usage, name)
        if type(value) is not int or not least <= value <= most:
            yield f"{name} is not within {least} and {most}: {value!r}"
    for name in ("streamed", "estimated"):
        if type(getattr(usage, name)) is not bool:
            yield f"{name} is neither true nor false: {getattr(usage, name)!r}"
    if type(usage.ended_at) not in (int, float) or not _EARLIEST <= usage.ended_at <= latest:
        yield f"ended_at is no instant of a right clock: {usage.ended_at!r}"
