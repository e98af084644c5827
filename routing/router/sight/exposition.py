"""The counts as Prometheus reads them. docs/observability.md lists the names and says where each comes from.

`gen_ai_*` are the metrics of OpenTelemetry's GenAI conventions in Prometheus' spelling, labels included; for the others
the name of vLLM's like metric follows our prefix, where it has one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from routing.router.sight import counts as bounds
from routing.router.sight import gen_ai
from routing.router.sight.counts import Counts, Histogram, Key, Reading, Series, added

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
Labels = tuple[str, ...]

_GEN_AI = ("gen_ai_operation_name", "gen_ai_request_model", "gen_ai_provider_name")


def render(counts: Counts, readings: Sequence[Reading], *, accept: str) -> tuple[bytes, str]:
    """The page and its media type: OpenMetrics if `accept` asks for it. `readings`: one of each living process."""
    encode, media_type = choose_encoder(accept)
    return encode(_Page(counts, readings)), media_type


class _Page(Collector):
    def __init__(self, counts: Counts, readings: Sequence[Reading]) -> None:
        self._counts = counts
        self._readings = readings

    def collect(self) -> Iterator[Family]:
        yield from _gen_ai(self._counts)
        yield from _requests(self._counts)
        yield from _failures(self._counts)
        yield from _tokens(self._counts)
        yield from _state(self._readings)


def _gen_ai(counts: Counts) -> Iterator[Family]:
    yield _histogram(
        "gen_ai_server_request_duration_seconds",
        "From a request's arrival to the end of its answer; error_type: the error's code, else its HTTP status",
        (*_GEN_AI, "error_type"),
        bounds.DURATION,
        _summed(counts, lambda key: (*_gen_ai_labels(key), _error_type(key)), lambda series: series.duration),
    )
    yield _histogram(
        "gen_ai_server_time_to_first_token_seconds",
        "From a request's arrival to the first byte of a streamed answer that came to its end",
        _GEN_AI,
        bounds.FIRST_TOKEN,
        _summed(counts, _gen_ai_labels, lambda series: series.first_token),
    )
    yield _histogram(
        "gen_ai_server_time_per_output_token_seconds",
        "Of a streamed answer that came to its end: the time after the first token over the tokens after it",
        _GEN_AI,
        bounds.PER_TOKEN,
        _summed(counts, _gen_ai_labels, lambda series: series.per_token),
    )
    yield _histogram(
        "gen_ai_client_token_usage",
        "Tokens of a request, as its engine counted them",
        (*_GEN_AI, "gen_ai_token_type"),
        bounds.TOKENS,
        _summed(counts, lambda key: (*_gen_ai_labels(key), "input"), lambda series: series.input)
        | _summed(counts, lambda key: (*_gen_ai_labels(key), "output"), lambda series: series.output),
    )


def _requests(counts: Counts) -> Iterator[Family]:
    yield _counter(
        "inventiv_router_requests",
        "Requests that are over, by HTTP status (499: the client left) and, if it was an error of ours, by its code",
        ("model", "operation", "status", "error"),
        {
            (model, operation, str(status), error): _size(series.duration)
            for (model, operation, status, error), series in counts.series.items()
        },
    )
    yield _histogram(
        "inventiv_router_request_queue_time_seconds",
        "How long a request waited for a free place, if it had to",
        ("model",),
        bounds.QUEUED,
        _summed(counts, _model, lambda series: series.queued),
    )
    yield _histogram(
        "inventiv_router_selection_time_seconds",
        "How long it took to choose an instance, the queue left out",
        ("model",),
        bounds.SELECTED,
        _summed(counts, _model, lambda series: series.selected),
    )


def _failures(counts: Counts) -> Iterator[Family]:
    yield _counter(
        "inventiv_router_retries",
        "Times that a request was sent to another instance",
        ("model",),
        _totals(counts, lambda series: series.retries),
    )
    yield _counter(
        "inventiv_router_upstream_errors",
        "Times that an instance did not answer as it should, by what it did",
        ("kind",),
        {(kind,): count for kind, count in counts.upstream_errors.items()},
    )
    yield _counter(
        "inventiv_router_ejections",
        "Times that an instance was taken out of routing for its failures",
        ("model",),
        {(model,): count for model, count in counts.ejections.items()},
    )


def _tokens(counts: Counts) -> Iterator[Family]:
    yield _counter(
        "inventiv_router_prompt_tokens",
        "Tokens of the requests",
        ("model",),
        _totals(counts, lambda series: series.input[-1]),
    )
    yield _counter(
        "inventiv_router_prompt_tokens_cached",
        "Those of them that an engine found in its prefix cache",
        ("model",),
        _totals(counts, lambda series: series.cached),
    )
    yield _counter(
        "inventiv_router_generation_tokens",
        "Tokens of the answers",
        ("model",),
        _totals(counts, lambda series: series.output[-1]),
    )


def _state(readings: Sequence[Reading]) -> Iterator[Family]:
    yield _gauge(
        "inventiv_router_num_requests_running",
        "Requests that an instance is at work on",
        _by_model(readings, lambda reading: reading.running),
        ("model",),
    )
    yield _gauge(
        "inventiv_router_num_requests_waiting",
        "Requests that wait for a free place",
        _by_model(readings, lambda reading: reading.waiting),
        ("model",),
    )
    yield _gauge(
        "inventiv_router_client_connections",
        "Open connections of clients",
        {(): sum(reading.connections for reading in readings)},
    )
    yield _gauge(
        "inventiv_router_redis_connected",
        "1 if every process is connected to Redis",
        {(): min((int(reading.redis_connected) for reading in readings), default=0)},
    )
    yield _gauge(
        "inventiv_router_snapshot_age_seconds",
        "How long ago the process that is worst off saw the whole discovery index",
        {(): max((reading.snapshot_age for reading in readings), default=float("inf"))},
    )
    yield _gauge("inventiv_router_processes", "Processes that serve", {(): len(readings)})


def _counter(name: str, about: str, labels: Labels, values: Mapping[Labels, float]) -> Family:
    family = CounterMetricFamily(name, about, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _gauge(name: str, about: str, values: Mapping[Labels, float], labels: Labels = ()) -> Family:
    family = GaugeMetricFamily(name, about, labels=labels)
    for each, value in values.items():
        family.add_metric(each, value)
    return family


def _histogram(
    name: str, about: str, labels: Labels, bounds: Sequence[float], values: Mapping[Labels, Histogram]
) -> Family:
    family = HistogramMetricFamily(name, about, labels=labels)
    spelled = [*(str(float(bound)) for bound in bounds), "+Inf"]
    for each, histogram in values.items():
        if _size(histogram):
            buckets = list(zip(spelled, accumulate(histogram[:-1]), strict=True))
            family.add_metric(each, buckets, histogram[-1])
    return family


def _summed(
    counts: Counts, labels: Callable[[Key], Labels], pick: Callable[[Series], Histogram]
) -> dict[Labels, Histogram]:
    found: dict[Labels, Histogram] = {}
    for key, series in counts.series.items():
        each = labels(key)
        known = found.get(each)
        found[each] = pick(series) if known is None else added(known, pick(series))
    return found


def _totals(counts: Counts, pick: Callable[[Series], float]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for key, series in counts.series.items():
        each = _model(key)
        found[each] = found.get(each, 0) + pick(series)
    return found


def _by_model(readings: Sequence[Reading], pick: Callable[[Reading], Mapping[str, int]]) -> dict[Labels, float]:
    found: dict[Labels, float] = {}
    for reading in readings:
        for model, count in pick(reading).items():
            found[model,] = found.get((model,), 0) + count
    return found


def _size(histogram: Histogram) -> float:
    return sum(histogram[:-1])


def _model(key: Key) -> Labels:
    return (key[0],)


def _gen_ai_labels(key: Key) -> Labels:
    model, operation, _, _ = key
    return (gen_ai.operation_name(operation), model, gen_ai.PROVIDER)


def _error_type(key: Key) -> str:
    _, _, status, error = key
    return gen_ai.error_type(status=status, error_code=error)
