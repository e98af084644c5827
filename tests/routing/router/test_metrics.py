"""What /metrics says, in one process and in several."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from routing import addresses
from routing.router.errors import ApiError
from routing.router.passage import Passage, Tokens
from routing.router.sight.counts import Counts, Reading
from routing.router.sight.metrics import PATH, Metrics
from routing.router.sight.operators import Operators
from routing.router.sight.shared_counts import SharedCounts
from tests.routing.router.asking import ask

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "observability.md"
MODEL = "org/model"
IDLE = Reading(running={}, waiting={}, connections=0, redis_connected=True, snapshot_age=0.5)


def metrics(*, read: Callable[[], Reading] = lambda: IDLE, shared: SharedCounts | None = None) -> Metrics:
    models = {MODEL, *(f"org/{number}" for number in range(1000))}
    return Metrics(models=lambda: models, read=read, operators=Operators(addresses.LOOPBACK), shared=shared)


def passage(
    *,
    model: str = MODEL,
    operation: str = "chat",
    took: float = 2.0,
    first_byte: float = 0.0,
    status: int = 200,
    error_code: str = "",
    streamed: bool = False,
    attempts: int = 1,
    queued: float = 0.0,
    tokens: Tokens | None = None,
) -> Passage:
    return Passage(
        "id",
        operation,
        started=100.0,
        model_id=model,
        streamed=streamed,
        attempts=attempts,
        queued=queued,
        selected=0.0003,
        first_byte_at=100.0 + first_byte if first_byte else 0.0,
        ended_at=100.0 + took,
        status=status,
        error_code=error_code,
        tokens=tokens,
    )


async def scrape(metrics: Metrics) -> Samples:
    answer = await ask(metrics.answer, PATH)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def gen_ai(operation: str = "chat", **more: str) -> dict[str, str]:
    return {
        "gen_ai_operation_name": operation,
        "gen_ai_request_model": MODEL,
        "gen_ai_provider_name": "inventiv",
        **more,
    }


async def test_a_request_is_counted_by_its_end() -> None:
    ours = metrics()
    for each in (passage(), passage(), passage(status=429, error_code="rate_limit_exceeded", attempts=0)):
        ours.observe(each)

    samples = await scrape(ours)

    name, labels = "inventiv_router_requests_total", {"model": MODEL, "operation": "chat"}
    assert value(samples, name, **labels, status="200", error="") == 2
    assert value(samples, name, **labels, status="429", error="rate_limit_exceeded") == 1
    duration = "gen_ai_server_request_duration_seconds"
    assert value(samples, f"{duration}_sum", **gen_ai(error_type="")) == 4
    assert value(samples, f"{duration}_bucket", **gen_ai(error_type=""), le="1.28") == 0
    assert value(samples, f"{duration}_bucket", **gen_ai(error_type=""), le="2.56") == 2
    assert value(samples, f"{duration}_count", **gen_ai(error_type="rate_limit_exceeded")) == 1


async def test_a_stream_shows_the_time_to_its_first_token_and_between_two() -> None:
    ours = metrics()
    ours.observe(passage(streamed=True, first_byte=0.5, took=2.5, tokens=Tokens(input=100, output=21, cached=64)))

    samples = await scrape(ours)

    assert value(samples, "gen_ai_server_time_to_first_token_seconds_sum", **gen_ai()) == pytest.approx(0.5)
    assert value(samples, "gen_ai_server_time_per_output_token_seconds_sum", **gen_ai()) == pytest.approx(0.1)
    assert value(samples, "gen_ai_client_token_usage_sum", **gen_ai(gen_ai_token_type="input")) == 100
    assert value(samples, "inventiv_router_prompt_tokens_total", model=MODEL) == 100
    assert value(samples, "inventiv_router_prompt_tokens_cached_total", model=MODEL) == 64
    assert value(samples, "inventiv_router_generation_tokens_total", model=MODEL) == 21


@pytest.mark.parametrize(
    "other",
    [
        passage(first_byte=0.5),  # in one piece: its first byte is its last token's
        passage(streamed=True, first_byte=0.5, status=499),
        passage(streamed=True, first_byte=0.5, error_code="upstream_error"),
    ],
)
async def test_what_is_no_finished_stream_says_nothing_of_tokens_in_time(other: Passage) -> None:
    ours = metrics()
    ours.observe(other)

    names = {name for name, _ in await scrape(ours)}

    assert "gen_ai_server_request_duration_seconds_count" in names
    assert not any("first_token" in name or "per_output_token" in name for name in names)


async def test_failures_are_counted() -> None:
    ours = metrics()
    ours.observe(passage(attempts=3, queued=0.2))
    ours.ejected(MODEL)
    ours.upstream_error("Unreachable")
    ours.upstream_error("Unreachable")

    samples = await scrape(ours)

    assert value(samples, "inventiv_router_retries_total", model=MODEL) == 2
    assert value(samples, "inventiv_router_ejections_total", model=MODEL) == 1
    assert value(samples, "inventiv_router_upstream_errors_total", kind="Unreachable") == 2
    assert value(samples, "inventiv_router_request_queue_time_seconds_count", model=MODEL) == 1
    assert value(samples, "inventiv_router_selection_time_seconds_bucket", model=MODEL, le="0.0005") == 1


async def test_gauges_are_read_when_asked() -> None:
    now = replace(IDLE, running={MODEL: 7}, waiting={MODEL: 2}, connections=40, redis_connected=False, snapshot_age=3)

    samples = await scrape(metrics(read=lambda: now))

    assert value(samples, "inventiv_router_num_requests_running", model=MODEL) == 7
    assert value(samples, "inventiv_router_num_requests_waiting", model=MODEL) == 2
    assert value(samples, "inventiv_router_client_connections") == 40
    assert value(samples, "inventiv_router_redis_connected") == 0
    assert value(samples, "inventiv_router_snapshot_age_seconds") == 3
    assert value(samples, "inventiv_router_processes") == 1


async def test_a_name_that_a_client_made_up_is_no_label() -> None:
    ours = metrics(read=lambda: replace(IDLE, running={"made up": 1}))
    for number in range(50):
        ours.observe(passage(model=f"made up {number}", status=404, attempts=0))
        ours.ejected(f"made up {number}")

    samples = await scrape(ours)

    assert value(samples, "inventiv_router_requests_total", model="other", operation="chat", status="404", error="")
    assert not any("made up" in label for _, labels in samples for _, label in labels)


async def test_a_large_catalogue_and_strange_errors_make_a_bounded_number_of_labels() -> None:
    ours = metrics()
    for number in range(1000):
        ours.observe(passage(model=f"org/{number}"))
        ours.upstream_error(f"kind {number}")

    samples = await scrape(ours)

    counted = {labels: count for (name, labels), count in samples.items() if name == "inventiv_router_requests_total"}
    assert len(counted) == 101
    assert sum(counted.values()) == 1000
    assert value(samples, "inventiv_router_upstream_errors_total", kind="other") == 950


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain;version=0.0.4", ""])
async def test_it_speaks_openmetrics_to_whoever_asks_for_it(accept: str) -> None:
    ours = metrics()
    ours.observe(passage(streamed=True, first_byte=1, tokens=Tokens(1, 2)))

    answer = await ask(ours.answer, PATH, headers={"accept": accept})

    is_open = answer.headers["content-type"].startswith("application/openmetrics-text")
    assert is_open == accept.startswith("application/openmetrics-text")
    families = list((parse_openmetrics if is_open else parse_text)(answer.text))
    assert {"gen_ai_server_request_duration_seconds", "inventiv_router_processes"} <= {each.name for each in families}
    assert all(each.type != "unknown" and each.documentation for each in families)
    assert int(answer.headers["content-length"]) == len(answer.body)


async def test_the_documentation_lists_what_there_is() -> None:
    ours = metrics()
    ours.observe(passage(streamed=True, first_byte=1, queued=1, tokens=Tokens(1, 2)))
    ours.upstream_error("Broken")
    documented = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) ", DOCUMENTATION.read_text(), re.MULTILINE)

    answer = await ask(ours.answer, PATH)

    typed = re.findall(r"^# TYPE (\S+) (\S+)$", answer.text, re.MULTILINE)
    assert sorted(documented) == sorted(typed)


async def test_strangers_find_nothing() -> None:
    with pytest.raises(ApiError) as refused:
        await ask(metrics().answer, PATH, peer="192.0.2.1")

    assert refused.value.status == 404


PASSAGES = st.builds(
    passage,
    model=st.sampled_from([MODEL, "org/1", "made up", ""]),
    operation=st.sampled_from(["chat", "completions", "embeddings"]),
    took=st.integers(0, 10_000).map(float),
    first_byte=st.integers(0, 100).map(float),
    status=st.sampled_from([200, 429, 499, 502]),
    error_code=st.sampled_from(["", "upstream_error"]),
    streamed=st.booleans(),
    attempts=st.integers(0, 3),
    queued=st.integers(0, 100).map(float),
    tokens=st.none() | st.builds(Tokens, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)),
)


class Workers:
    """Some processes on one port, of which any may die and be replaced."""

    def __init__(self, home: Path, *, number: int) -> None:
        self._home = home
        self._running: list[tuple[Metrics, SharedCounts]] = []
        for _ in range(number):
            self.start()

    def start(self) -> None:
        shared = SharedCounts(self._home)
        self._running.append((metrics(shared=shared), shared))

    def kill(self, at: int) -> None:
        self._running.pop(at % len(self._running))[1].leave()  # all that the kernel does for the dead

    @property
    def files(self) -> int:
        return len(list(self._home.glob("*.json")))

    def __getitem__(self, at: int) -> Metrics:
        return self._running[at % len(self._running)][0]


def without_gauges(samples: Samples) -> Samples:
    return {key: count for key, count in samples.items() if key[0].endswith(("_total", "_bucket", "_sum", "_count"))}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), PASSAGES | st.none()), max_size=30))
async def test_the_sums_over_workers_are_what_was_observed(steps: list[tuple[int, Passage | None]]) -> None:
    """Each step: a worker, and what it observes; None: it is killed and replaced."""
    alone = metrics()
    with tempfile.TemporaryDirectory() as home:
        workers = Workers(Path(home), number=3)
        for at, observed in steps:
            if observed is None:
                await workers[at].save()
                workers.kill(at)
                workers.start()
            else:
                alone.observe(observed)
                workers[at].observe(observed)
        for at in range(3):
            await workers[at].save()

        together = await scrape(workers[0])

        assert without_gauges(together) == pytest.approx(without_gauges(await scrape(alone)))
        assert workers.files == 3


async def test_no_total_goes_back_when_the_worker_that_was_just_asked_is_killed(tmp_path: Path) -> None:
    workers = Workers(tmp_path, number=2)
    workers[0].observe(passage())
    labels = {"model": MODEL, "operation": "chat", "status": "200", "error": ""}
    assert value(await scrape(workers[0]), "inventiv_router_requests_total", **labels) == 1

    workers.kill(0)

    assert value(await scrape(workers[0]), "inventiv_router_requests_total", **labels) == 1


async def test_gauges_of_workers_add_up_and_those_of_the_dead_are_dropped(tmp_path: Path) -> None:
    busy = replace(IDLE, running={MODEL: 3}, connections=5)
    shared = [SharedCounts(tmp_path) for _ in range(4)]
    ours, theirs, leaver, _ = (metrics(read=lambda: busy, shared=each) for each in shared)
    await theirs.save()
    await leaver.save()
    await leaver.close()
    shared[3].write(Counts(), replace(busy, redis_connected=False), now=time.time() - 60)  # killed a minute ago

    samples = await scrape(ours)

    assert value(samples, "inventiv_router_num_requests_running", model=MODEL) == 6
    assert value(samples, "inventiv_router_client_connections") == 10
    assert value(samples, "inventiv_router_processes") == 2
    assert value(samples, "inventiv_router_redis_connected") == 1


async def test_it_goes_on_when_the_disk_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ours = metrics(shared=SharedCounts(home))
    await ours.save()
    home.rename(tmp_path / "elsewhere")

    for _ in range(3):
        await ours.save()

    assert [record.getMessage()[:31] for record in caplog.records] == ["The metrics can't be written do"]
