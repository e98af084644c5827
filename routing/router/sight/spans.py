"""A passage as spans of OpenTelemetry's SDK: the only module that imports it, and only where traces are wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from routing.router.config import ConfigError
from routing.router.passage import Passage
from routing.router.sight import gen_ai
from routing.router.sight.trace_context import Parent, Trace

Attributes = Mapping[str, str | int | float | bool]

_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
_UNNAMED = "unknown_service"  # as the SDK calls it


class Spans:
    """`exporter`: None = OTLP over HTTP, as the environment says. A thread of the SDK sends; nobody waits for it, and
    what is too much for it is dropped. Raises ConfigError."""

    def __init__(self, exporter: SpanExporter | None) -> None:
        if exporter is None and os.environ.get(_PROTOCOL, "http/protobuf") != "http/protobuf":
            raise ConfigError(f"{_PROTOCOL}: the router speaks http/protobuf only")
        self._ids = _GivenIds()
        # What is recorded was decided at the beginning: all that comes here.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=_resource(), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("inventiv.router")

    def make(self, passage: Passage, trace: Trace, *, now: int) -> None:
        """`now`: nanoseconds since the epoch when the passage ended."""
        instants = _Instants(passage, now)
        self._ids.trace_id = trace.trace_id
        whole = self._start(
            _name(passage),
            within=_context_of(trace.parent),
            kind=SpanKind.SERVER,
            span_id=trace.span_id,
            at=instants.of(passage.started),
            attributes=_attributes(passage),
        )
        self._make_parts(passage, trace, instants, within=set_span_in_context(whole, Context()))
        if _is_failure(passage):
            whole.set_status(Status(StatusCode.ERROR, passage.error_code))
        whole.end(now)

    def close(self) -> None:
        """Send what is left. May take long."""
        self._provider.shutdown()

    def _make_parts(self, passage: Passage, trace: Trace, instants: _Instants, *, within: Context) -> None:
        """It waited, then an instance was chosen, then that was asked. With retries: the last time, and the sums."""
        asked_at = passage.sent_at or passage.ended_at
        chosen_from = asked_at - passage.selected
        if passage.queued:
            span = self._start("queue", within=within, at=instants.of(chosen_from - passage.queued))
            span.end(instants.of(chosen_from))
        if passage.selected:
            span = self._start("select", within=within, at=instants.of(chosen_from))
            span.end(instants.of(asked_at))
        if passage.sent_at:
            self._make_upstream(passage, trace, instants, within=within)

    def _make_upstream(self, passage: Passage, trace: Trace, instants: _Instants, *, within: Context) -> None:
        span = self._start(
            f"engine {passage.operation}",
            within=within,
            kind=SpanKind.CLIENT,
            span_id=trace.upstream_id,
            at=instants.of(passage.sent_at),
            attributes={"inventiv.instance.id": passage.instance_id},
        )
        if passage.first_byte_at:
            span.add_event("first byte", timestamp=instants.of(passage.first_byte_at))
        span.end(instants.of(passage.ended_at))

    def _start(
        self,
        name: str,
        *,
        within: Context,
        at: int,
        kind: SpanKind = SpanKind.INTERNAL,
        span_id: int = 0,
        attributes: Attributes | None = None,
    ) -> Span:
        self._ids.span_id = span_id
        return self._tracer.start_span(name, context=within, kind=kind, attributes=attributes, start_time=at)


class _GivenIds(RandomIdGenerator):
    """The ids of a span that others were already told of."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id or super().generate_span_id()


class _Instants:
    """From seconds of `time.perf_counter` to nanoseconds since the epoch."""

    def __init__(self, passage: Passage, now: int) -> None:
        self._ended_at = passage.ended_at
        self._now = now

    def of(self, instant: float) -> int:
        return self._now - int((self._ended_at - instant) * 1e9)


def _resource() -> Resource:
    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith(_UNNAMED):
        return found.merge(Resource({SERVICE_NAME: "inventiv-router"}))
    return found


def _context_of(parent: Parent | None) -> Context:
    if parent is None:
        return Context()
    context = SpanContext(
        trace_id=parent.trace_id,
        span_id=parent.span_id,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([parent.state.decode("latin-1")]),
    )
    return set_span_in_context(NonRecordingSpan(context), Context())


def _name(passage: Passage) -> str:
    return f"{gen_ai.operation_name(passage.operation)} {passage.model_id}".rstrip()


def _attributes(passage: Passage) -> Attributes:
    found: dict[str, str | int | float | bool] = {
        "http.request.method": "POST",
        "http.response.status_code": passage.status,
        "gen_ai.operation.name": gen_ai.operation_name(passage.operation),
        "gen_ai.provider.name": gen_ai.PROVIDER,
        "gen_ai.request.model": passage.model_id,
        "gen_ai.request.stream": passage.streamed,
        "error.type": gen_ai.error_type(status=passage.status, error_code=passage.error_code),
        "inventiv.request.id": passage.request_id,
        "inventiv.key.id": passage.key_id,
        "inventiv.attempts": passage.attempts,
    }
    if passage.streamed and passage.first_byte_at:
        found["gen_ai.response.time_to_first_chunk"] = passage.first_byte_at - passage.started
    if passage.tokens is not None:
        found["gen_ai.usage.input_tokens"] = passage.tokens.input
        found["gen_ai.usage.output_tokens"] = passage.tokens.output
        found["gen_ai.usage.cache_read.input_tokens"] = passage.tokens.cached
    return {name: value for name, value in found.items() if value != ""}


def _is_failure(passage: Passage) -> bool:
    """Not the client's own: a server's span is no error for what the client did wrong. An error in the middle of an
    answer has the status of its beginning."""
    return passage.status >= 500 or (passage.status < 400 and passage.error_code != "")
