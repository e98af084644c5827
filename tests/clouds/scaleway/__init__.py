"""Scaleway's API as a stateful stand-in at the wire: HTTP on loopback, a clock of your choice, a bill, and faults.

    with FakeScaleway(clock=clock) as cloud:
        provider = build(access_key=..., api_url=cloud.url, ...)
        cloud.faults.lose_answers(1)
        cloud.bill()

Shapes of answers, errors and statuses are the recorded ones (those in the SDK's wheel are tested against). Everything
that was ever made stays in its books, so that the bill can be read at any time.
"""

from __future__ import annotations

from tests.clouds.scaleway.bill import Line
from tests.clouds.scaleway.faults import Fault
from tests.clouds.scaleway.http import FakeScaleway

__all__ = ["FakeScaleway", "Fault", "Line"]
