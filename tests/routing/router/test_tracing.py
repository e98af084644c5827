"""Traces: what a request leaves behind, and what the engine is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from routing.router.asgi import Headers
from routing.router.config import ConfigError
from routing.router.passage import Passage, Tokens
from routing.router.sight.trace_context import Trace, parent_of
from routing.router.sight.tracing import Tracing

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = [(b"traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01".encode()), (b"tracestate", b"vendor=value")]
UNSAMPLED = [(b"traceparent", f"00-{TRACE_ID}-{SPAN_ID}-00".encode())]


class Traces:
    """Passages that begin and end, and the spans that come of them."""

    def __init__(self, *, share: float = 0.0) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(share=share, exporter=self.exporter)

    def begin(self, headers: Headers) -> Passage:
        passage = Passage("request-1", "completions", started=100.0)
        self.tracing.begin(passage, {"headers": headers})
        return passage

    def end(self, passage: Passage) -> dict[str, ReadableSpan]:
        passage.ended_at = passage.ended_at or 102.0
        self.tracing.observe(passage)
        self.tracing.close()
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.tracing.close()


def answered(passage: Passage) -> Passage:
    passage.key_id, passage.model_id, passage.instance_id = "7", "org/model", "i-1"
    passage.streamed, passage.status, passage.attempts = True, 200, 1
    passage.queued, passage.selected = 0.25, 0.05
    passage.sent_at, passage.first_byte_at, passage.ended_at = 100.5, 101.0, 102.0
    passage.tokens = Tokens(input=10, output=20, cached=5)
    return passage


def trace_of(passage: Passage) -> Trace:
    assert passage.trace is not None
    return passage.trace


def duration(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def after(span: ReadableSpan, whole: ReadableSpan) -> float:
    assert span.start_time is not None
    assert whole.start_time is not None
    return (span.start_time - whole.start_time) / 1e9


def test_a_request_is_a_span_of_the_clients_trace(traces: Traces) -> None:
    spans = traces.end(answered(traces.begin(SAMPLED)))

    whole = spans["text_completion org/model"]
    assert whole.kind is SpanKind.SERVER
    assert whole.parent is not None
    assert (f"{whole.parent.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE_ID, SPAN_ID)
    assert whole.context is not None
    assert f"{whole.context.trace_id:032x}" == TRACE_ID
    assert duration(whole) == pytest.approx(2)
    assert whole.status.status_code is StatusCode.UNSET
    assert dict(whole.attributes or {}) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "inventiv",
        "gen_ai.request.model": "org/model",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 1.0,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 5,
        "inventiv.request.id": "request-1",
        "inventiv.key.id": "7",
        "inventiv.attempts": 1,
    }


def test_its_parts_are_spans_within_it(traces: Traces) -> None:
    spans = traces.end(answered(traces.begin(SAMPLED)))

    whole = spans.pop("text_completion org/model")
    begun = {name: after(span, whole) for name, span in spans.items()}
    assert begun == pytest.approx({"queue": 0.2, "select": 0.45, "engine completions": 0.5})
    took = {name: duration(span) for name, span in spans.items()}
    assert took == pytest.approx({"queue": 0.25, "select": 0.05, "engine completions": 1.5})
    assert all(span.parent == whole.context for span in spans.values())
    assert [event.name for event in spans["engine completions"].events] == ["first byte"]


def test_the_engine_is_told_the_span_that_asks_it(traces: Traces) -> None:
    passage = traces.begin([*SAMPLED, (b"accept", b"*/*")])

    sent_on = trace_of(passage).on([*SAMPLED, (b"accept", b"*/*")])

    context = traces.end(answered(passage))["engine completions"].context
    assert context is not None
    assert sent_on == [
        (b"accept", b"*/*"),
        (b"traceparent", f"00-{TRACE_ID}-{context.span_id:016x}-01".encode()),
        (b"tracestate", b"vendor=value"),
    ]


def test_what_the_client_does_not_record_is_not_recorded(traces: Traces) -> None:
    passage = traces.begin(UNSAMPLED)

    ((_, sent_on),) = trace_of(passage).on(UNSAMPLED)

    assert sent_on.startswith(f"00-{TRACE_ID}-".encode())
    assert sent_on.endswith(b"-00")
    assert traces.end(answered(passage)) == {}


@pytest.mark.parametrize(("share", "spans"), [(0.0, 0), (1.0, 4)])
def test_without_a_clients_decision_the_share_decides(share: float, spans: int) -> None:
    traces = Traces(share=share)
    passage = traces.begin([])

    assert len(traces.end(answered(passage))) == spans
    assert trace_of(passage).parent is None


def test_a_client_who_wants_every_request_traced_gets_a_bounded_number() -> None:
    traces = Traces()

    traced = sum(trace_of(traces.begin(SAMPLED)).is_sampled for _ in range(5000))

    traces.tracing.close()
    assert 100 <= traced < 5000


@pytest.mark.parametrize(
    ("status", "error_code", "is_error"),
    [
        (200, "", False),
        (429, "rate_limit_exceeded", False),
        (502, "upstream_error", True),
        (200, "upstream_error", True),
    ],
)
def test_only_the_servers_failures_are_errors(status: int, error_code: str, is_error: bool, traces: Traces) -> None:
    passage = answered(traces.begin(SAMPLED))
    passage.status, passage.error_code = status, error_code

    whole = traces.end(passage)["text_completion org/model"]

    assert (whole.status.status_code is StatusCode.ERROR) == is_error
    assert (whole.attributes or {}).get("error.type", "") == error_code


def test_a_request_that_was_refused_at_once_is_one_span(traces: Traces) -> None:
    passage = traces.begin(SAMPLED)
    passage.status = 401

    assert list(traces.end(passage)) == ["text_completion"]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        f"ff-{TRACE_ID}-{SPAN_ID}-01".encode(),
        f"00-{TRACE_ID}-{SPAN_ID}-01-more".encode(),
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01".encode(),
        f"00-{'0' * 32}-{SPAN_ID}-01".encode(),
        f"00-{TRACE_ID}-{'0' * 16}-01".encode(),
        f"00-{TRACE_ID}-{SPAN_ID}-01\n".encode(),
    ],
)
def test_a_traceparent_that_is_none_counts_as_nothing(value: bytes) -> None:
    assert parent_of([(b"traceparent", value)]) is None


def test_two_of_them_count_as_nothing() -> None:
    assert parent_of(SAMPLED + UNSAMPLED) is None


def test_a_later_version_may_say_more() -> None:
    parent = parent_of([(b"traceparent", f"01-{TRACE_ID}-{SPAN_ID}-03-more".encode())])

    assert parent is not None
    assert parent.is_sampled


def test_a_protocol_that_it_does_not_speak_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")

    with pytest.raises(ConfigError, match=r"^OTEL_EXPORTER_OTLP_PROTOCOL"):
        Tracing(share=1)


def test_without_the_packages_it_names_what_to_install() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from routing.router.config import ConfigError\n"
        "from routing.router.sight.tracing import Tracing\n"
        "try: Tracing(share=1)\n"
        "except ConfigError as error: print(error)"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said.startswith("ROUTER_TRACING needs what requirements/tracing.txt lists")
