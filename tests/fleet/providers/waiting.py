"""Waiting in tests: for a condition, with a bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(ask: Callable[[], T | None], *, within: float = 15.0) -> T:
    """The first true answer. Fails if there is none within so many seconds."""
    deadline = time.monotonic() + within
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)
    return answer
