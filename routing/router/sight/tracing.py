"""OpenTelemetry traces: a span for a request, made when it is over from what was noted on its way, so that the way
itself costs no more than an id. Without the setting there is no object, and a client's `traceparent` passes untouched.

Names are those of the conventions for generative AI, where they have one. What a request or its answer said is never
recorded.
"""

from __future__ import annotations

import time
from random import random
from threading import Thread
from typing import TYPE_CHECKING

from routing.router.asgi import Scope
from routing.router.config import ConfigError
from routing.router.passage import Passage
from routing.router.sight.trace_context import Trace, parent_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_MOST_A_SECOND = 100  # traces: any client can ask for one, and one costs as much as several requests
_LAST_EXPORT_WITHIN = 5.0  # seconds


class Tracing:
    """`share`: of the requests that begin a trace, where the client has not decided. Where spans are sent is the SDK's
    to know (OTEL_EXPORTER_OTLP_*). Raises ConfigError if it is not installed or can't send as it is told."""

    def __init__(self, *, share: float, exporter: SpanExporter | None = None) -> None:
        try:
            from routing.router.sight.spans import Spans
        except ImportError:
            raise ConfigError("ROUTER_TRACING needs what requirements/tracing.txt lists; install it") from None
        self._spans = Spans(exporter)
        self._share = share
        self._second = 0
        self._in_this_second = 0

    def begin(self, passage: Passage, scope: Scope) -> None:
        """Decide whether it is traced, and as part of what; `passage.trace.on` tells the engine."""
        parent = parent_of(scope["headers"])
        wanted = random() < self._share if parent is None else parent.is_sampled  # noqa: S311 - nobody's secret
        passage.trace = Trace.begin(parent, is_sampled=wanted and self._may_have_another())

    def observe(self, passage: Passage) -> None:
        """The passage is over."""
        trace = passage.trace
        if trace is not None and trace.is_sampled:
            self._spans.make(passage, trace, now=time.time_ns())

    def close(self) -> None:
        """Send what is left, for some seconds; a collector that is away is not waited for."""
        closing = Thread(target=self._spans.close, daemon=True)
        closing.start()
        closing.join(_LAST_EXPORT_WITHIN)

    def _may_have_another(self) -> bool:
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._in_this_second = second, 0
        self._in_this_second += 1
        return self._in_this_second <= _MOST_A_SECOND
