"""That the router's benchmark runs and says what it has to say. How well the router does is not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.router import bars, chats, programs
from benchmarks.router.__main__ import SCENARIOS
from benchmarks.router.caching_engine import PrefixCache
from benchmarks.router.programs import Programs
from benchmarks.router.report import Run, as_json, as_markdown
from benchmarks.router.routers import Nginx

_RATE = 200  # events a second

needs_compiler = pytest.mark.skipif(programs.compiler() is None, reason="there is no C compiler (cc)")
needs_nginx = pytest.mark.skipif(bool(Nginx().missing()), reason=Nginx().missing())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return programs.compile_all(tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def ports(compiled: Programs) -> Iterator[Sequence[int]]:
    with programs.engines(compiled, events_per_second=_RATE) as ports:
        yield ports


@needs_compiler
@needs_nginx
def test_a_quick_run_measures_every_router_that_is_here_in_every_scenario(tmp_path: Path) -> None:
    output = tmp_path / "result.json"

    done = _run_program("--quick", "--output", str(output), "throughput", "idle", "streaming")

    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    assert result["medians"].keys() == {"throughput", "idle", "streaming"}
    assert {"inventiv", "nginx"} <= result["medians"]["throughput"].keys()
    for routers in result["medians"].values():
        assert all(figures["errors"] == 0 for figures in routers.values())
    assert result["medians"]["throughput"]["inventiv"]["per_core_second"] > 0
    assert result["medians"]["throughput"]["inventiv"]["redis_us"] > 0
    assert result["medians"]["streaming"]["inventiv"]["cpu_ms_per_1000"] > 0
    assert any("nginx" in bar["claim"] for bar in result["bars"])
    assert "| inventiv" in done.stdout


def test_it_refuses_a_scenario_that_it_does_not_have() -> None:
    done = _run_program("weather")

    assert done.returncode == 2
    assert "no such scenario: weather" in done.stderr


@needs_compiler
def test_the_mock_engine_answers_as_an_engine_does(ports: Sequence[int]) -> None:
    answer = httpx.post(f"http://127.0.0.1:{ports[0]}/v1/chat/completions", json={"messages": []}).json()

    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["total_tokens"] == 375


@needs_compiler
def test_the_mock_engine_streams_as_many_events_as_were_asked_for_and_then_the_usage(ports: Sequence[int]) -> None:
    asked = {"stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}

    answer = httpx.post(f"http://127.0.0.1:{ports[0]}/v1/chat/completions", json=asked)

    *events, usage, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert len(events) == 3
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == "stop"
    assert json.loads(usage)["usage"]["completion_tokens"] == 3
    assert done == "[DONE]"


@needs_compiler
def test_the_load_generator_measures_each_answer_between_the_two_instants(
    compiled: Programs, ports: Sequence[int]
) -> None:
    instants: list[str] = []

    found = programs.load_requests(
        compiled,
        ports[0],
        chats.chat(ports[0], "key"),
        connections=4,
        warm_up=0.01,
        seconds=0.1,
        begin=lambda: instants.append("begin"),
        end=lambda: instants.append("end"),
    )

    assert instants == ["begin", "end"]
    assert found.errors == 0
    assert found.latency.count > 10
    assert 0 < found.latency.p50 <= found.latency.p99 <= found.latency.most


@needs_compiler
def test_the_load_generator_counts_every_event_of_every_stream(compiled: Programs, ports: Sequence[int]) -> None:
    request = chats.stream(ports[0], "key", events=40)

    found = programs.load_streams(compiled, ports[0], request, streams=5, ramp=0.02, within=20)

    assert found.events == 5 * 40
    assert found.errors == 0
    assert found.together
    assert 0 < found.lateness.p50 <= found.lateness.most


@needs_compiler
def test_the_load_generator_tells_a_stream_that_is_not_finished_in_time(
    compiled: Programs, ports: Sequence[int]
) -> None:
    request = chats.stream(ports[0], "key", events=100_000)

    found = programs.load_streams(compiled, ports[0], request, streams=2, ramp=0.01, within=0.1)

    assert found.errors == 2


@needs_compiler
def test_the_load_generator_counts_an_answer_other_than_200_as_an_error(compiled: Programs, refusing_port: int) -> None:
    found = programs.load_requests(
        compiled, refusing_port, chats.chat(refusing_port, "key"), connections=1, warm_up=0.01, seconds=0.1
    )

    assert found.errors == found.latency.count > 0


@pytest.fixture
def refusing_port(tmp_path: Path) -> Iterator[int]:
    """A server that refuses whatever it is asked."""
    code = (
        "import http.server as h\n"
        "class Refusing(h.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_POST(self):\n"
        "        self.rfile.read(int(self.headers['content-length']))\n"
        "        self.send_response(503); self.send_header('content-length', '0'); self.end_headers()\n"
        "    def log_message(self, *_): pass\n"
        "server = h.HTTPServer(('127.0.0.1', 0), Refusing)\n"
        "print(server.server_port, flush=True)\n"
        "server.serve_forever()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.communicate()


def test_a_missing_compiler_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(programs.Failed, match="a C compiler"):
        programs.compile_all(tmp_path)


def test_a_request_is_the_same_to_every_router_and_has_a_body_of_a_kilobyte() -> None:
    head, _, body = chats.chat(8000, "a-key").partition(b"\r\n\r\n")

    assert len(body) == 1024
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"Authorization: Bearer a-key" in head
    assert json.loads(body)["model"] == chats.MODEL


def test_a_bar_is_judged_by_the_medians_of_one_run() -> None:
    found = {
        "throughput": {"inventiv": {"per_core_second": 12.0}, "nginx": {"per_core_second": 24.0}},
        "idle": {"inventiv": {"added_p50_us": 250.0, "p99_us": 1.0}, "nginx": {"p99_us": 1.0}},
    }

    judged = {verdict.claim: verdict for verdict in bars.verdicts(found)}

    assert judged["requests per core-second, x nginx: at least 0.3"].value == 0.5
    assert judged["requests per core-second, x nginx: at least 0.3"].cleared
    assert not judged["p50 that it adds when idle, us: at most 200"].cleared
    assert not any("litellm" in claim for claim in judged)


def test_a_report_shows_the_median_of_the_rounds_and_what_ours_is_of_it() -> None:
    run = _run({"inventiv": [10.0, 30.0, 20.0], "nginx": [40.0, 40.0, 10.0]})

    table = as_markdown(run, SCENARIOS)

    assert "| inventiv | 20 | 1.00 |" in table
    assert "| nginx 1.22 | 40 | 0.50 |" in table
    assert as_json(run)["medians"]["throughput"]["inventiv"]["per_core_second"] == 20.0


def test_a_prefix_cache_finds_what_it_has_seen_from_the_beginning_on() -> None:
    cache = PrefixCache(room=100)
    cache.remember("a" * 256)

    assert cache.found("a" * 256 + "b" * 256) == 256
    assert cache.found("b" * 64 + "a" * 256) == 0


def test_a_full_prefix_cache_forgets_what_was_not_used_for_longest() -> None:
    cache = PrefixCache(room=2)
    cache.remember("a" * 64)
    cache.remember("b" * 64)
    cache.remember("a" * 64)
    cache.remember("c" * 64)

    assert cache.found("a" * 64) == 64
    assert cache.found("b" * 64) == 0


def _run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.router", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def _run(per_core_second: dict[str, list[float]]) -> Run:
    other: dict[str, Any] = {"cpu_us": 1.0, "redis_us": 1.0, "memory_mib": 1.0, "errors": 0.0}
    return Run(
        at=datetime(2026, 3, 1, tzinfo=UTC),
        machine={"processor": "a processor", "cpus": 2, "memory_gib": 8, "system": "Linux", "python": "3.11"},
        versions={"nginx": "1.22"},
        missing={},
        outcomes={
            "throughput": {
                router: [{"per_core_second": each, **other} for each in rounds]
                for router, rounds in per_core_second.items()
            }
        },
    )
