"""Many instances ordered at once on the mock provider, until all are READY; then all ended, until nothing is left.

    python -m benchmarks.provisioning --instances 1000

Starts a stack of its own in a temporary home, with the default settings, on free ports, and ends it. The mock cloud
takes so many calls a second and no more; its machines are simulated in this process (`benchmarks.swarm`).
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import psutil
import psycopg
import redis
from celery import Celery

from benchmarks.swarm import Swarm
from fleet.providers.mock.store import Calls, Store
from inventiv.celery import broker_url
from inventiv.embedded import defaults
from tests.acceptance.running_stack import MODEL, RunningStack

MOST_REPLICAS = 64  # of one order
PROGRAMS = ("api", "orchestrator", "router", "beat", "postgres", "redis")
_SAMPLE_EVERY = 0.25  # seconds
_CLIENTS = 8  # that ask the API at once
_OURS = "benchmark"  # the name under which we look into the database


@dataclass(frozen=True, slots=True)
class Phase:
    """What it took, from the first request until the last instance was there (or was gone)."""

    seconds: float
    each: Sequence[float]  # seconds of each instance, by its transitions
    calls: Sequence[Calls]  # of the provider, by second
    cpu: Mapping[str, float]  # seconds, by program
    messages: Mapping[str, int]  # that the orchestrator took, by task
    transactions: int  # of the database; a statement outside of a transaction is one
    redis_commands: int

    @property
    def throttled(self) -> int:
        return sum(second.throttled for second in self.calls)

    @property
    def calls_in_all(self) -> int:
        return sum(second.allowed + second.throttled for second in self.calls)

    @property
    def most_calls_in_a_second(self) -> int:
        return max((second.allowed + second.throttled for second in self.calls), default=0)


@dataclass(frozen=True, slots=True)
class Figures:
    instances: int
    up: Phase
    down: Phase
    most_connections: int  # of the database, at any sample
    left: int  # servers in the mock cloud's books at the end
    refusals: Mapping[str, int] = field(default_factory=dict)  # what the machines were answered but 200


class Measured:
    """A running stack, the mock cloud under it, and what can be read off both."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        self.mock_home = stack.home / "mock"
        self.most_connections = 0
        self._database = psycopg.connect(
            defaults.database_url(stack.home), autocommit=True, application_name=_OURS, connect_timeout=5
        )
        self._redis: Any = redis.Redis.from_url(defaults.redis_url(stack.home))
        self._celery = Celery(broker=broker_url(defaults.redis_url(stack.home)))

    def provision(self, count: int, *, within: float) -> Phase:
        return self._phase(lambda: self._order(count), "READY", count, within=within)

    def terminate(self, count: int, *, within: float) -> Phase:
        return self._phase(self._end_all, "TERMINATED", count, within=within)

    def servers(self) -> int:
        with Store(self.mock_home).transaction() as books:
            return len(books.servers())

    def _phase(self, begin: Callable[[], None], status: str, count: int, *, within: float) -> Phase:
        before, began = self._counts(), time.monotonic()
        since = time.time()
        begin()
        self._await(status, count, within=within)
        seconds, after = time.monotonic() - began, self._counts()
        with Store(self.mock_home).transaction() as books:
            calls = [second for second in books.calls() if second.second >= int(since)]
        return Phase(
            seconds=seconds,
            each=self._durations(status),
            calls=calls,
            cpu=_difference(before.cpu, after.cpu),
            messages=_difference(before.messages, after.messages),
            transactions=after.transactions - before.transactions,
            redis_commands=after.redis_commands - before.redis_commands,
        )

    def _order(self, count: int) -> None:
        with self.stack.api() as api:
            for first in range(0, count, MOST_REPLICAS):
                replicas = min(MOST_REPLICAS, count - first)
                order = {"model": MODEL, "replicas": replicas, "limits": {"providers": ["mock"]}}
                answer = api.post("/deployments", json=order, timeout=60)
                answer.raise_for_status()

    def _end_all(self) -> None:
        ids = [row[0] for row in self._ask("SELECT id FROM instances WHERE status <> 'TERMINATED'")]
        with self.stack.api() as api, ThreadPoolExecutor(_CLIENTS) as clients:
            for answer in clients.map(lambda pk: _delete(api, f"/instances/{pk}"), ids):
                answer.raise_for_status()

    def _await(self, status: str, count: int, *, within: float) -> None:
        deadline = time.monotonic() + within
        while True:
            found: dict[str, int] = dict(self._ask("SELECT status, count(*) FROM instances GROUP BY status"))
            if found.get(status, 0) >= count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all {status} within {within} s: {found}")
            print(f"  {found}", flush=True)
            time.sleep(1)

    def _durations(self, status: str) -> list[float]:
        """From the order to READY, or from the wish to end it to TERMINATED."""
        began = "termination_requested_at" if status == "TERMINATED" else "created_at"
        query = f"""SELECT extract(epoch FROM t.at - i.{began})::float FROM transitions t
                    JOIN instances i ON i.id = t.instance_id WHERE t.to_status = %s"""  # noqa: S608 - our columns
        return [row[0] for row in self._ask(query, status)]

    # --- counts -------------------------------------------------------------------------------------------------------

    def _counts(self) -> _Counts:
        return _Counts(
            cpu={name: _cpu_seconds(self.stack.pid(name)) for name in PROGRAMS},
            messages=self._messages(),
            transactions=self._ask("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")[0][0],
            redis_commands=int(self._redis.info("stats")["total_commands_processed"]),
        )

    def _messages(self) -> Mapping[str, int]:
        answers = self._celery.control.inspect(timeout=10).stats() or {}
        return {task: n for worker in answers.values() for task, n in worker["total"].items()}

    def _ask(self, query: str, *values: object) -> list[Any]:
        return self._database.execute(query.encode(), values).fetchall()

    @contextmanager
    def sampling_connections(self) -> Iterator[None]:
        stopped = threading.Event()
        thread = threading.Thread(target=self._sample_connections, args=(stopped,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()

    def _sample_connections(self, stopped: threading.Event) -> None:
        url = defaults.database_url(self.stack.home)
        query = """SELECT count(*) FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND application_name <> %s"""
        with psycopg.connect(url, autocommit=True, application_name=_OURS) as database:
            while not stopped.wait(_SAMPLE_EVERY):
                row = database.execute(query, (_OURS,)).fetchone()
                self.most_connections = max(self.most_connections, row[0] if row else 0)

    def close(self) -> None:
        self._database.close()
        self._redis.close()


@dataclass(frozen=True, slots=True)
class _Counts:
    cpu: Mapping[str, float]
    messages: Mapping[str, int]
    transactions: int
    redis_commands: int


def measure(stack: RunningStack, *, instances: int, calls_per_second: float, within: float) -> Figures:
    """Drive a stack that is up, and empty."""
    stack.chaos("machines", "simulated")
    stack.chaos("calls_per_second", str(calls_per_second))
    measured = Measured(stack)
    try:
        with Swarm(measured.mock_home) as swarm, measured.sampling_connections():
            up = measured.provision(instances, within=within)
            down = measured.terminate(instances, within=within)
            left = measured.servers()
    finally:
        measured.close()
    return Figures(instances, up, down, measured.most_connections, left, swarm.refusals)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=50)
    parser.add_argument("--calls-per-second", type=float, default=100.0, help="that the mock cloud takes")
    parser.add_argument("--ours", type=float, default=0.0, help="that we make at most; default: nine tenths of that")
    parser.add_argument("--within", type=float, default=1200.0, help="seconds for each way")
    options = parser.parse_args()
    rate = options.ours or options.calls_per_second * 0.9
    directory = Path(tempfile.mkdtemp(prefix="inv-bench-"))
    stack = RunningStack(directory / "home", {"PROVIDER_CALLS_PER_SECOND": f"mock={rate}"})
    try:
        stack.start("--no-demo", within=300)
        print(f"{options.instances} instances; the mock cloud takes {options.calls_per_second} calls a second")
        report(
            measure(
                stack,
                instances=options.instances,
                calls_per_second=options.calls_per_second,
                within=options.within,
            )
        )
    finally:
        stack.destroy(logs=directory / "log")
        shutil.rmtree(directory)


def report(figures: Figures) -> None:
    _report_phase("all READY", figures.up, figures.instances)
    _report_phase("all gone", figures.down, figures.instances)
    print(f"database connections, at most: {figures.most_connections}")
    print(f"servers left in the cloud's books: {figures.left}")
    print(f"answers to the machines other than 200: {dict(figures.refusals) or 'none'}")


def _report_phase(title: str, phase: Phase, instances: int) -> None:
    median, late = _percentiles(phase.each)
    print(f"{title} after {phase.seconds:.1f} s; each: p50 {median:.1f} s, p95 {late:.1f} s")
    print(
        f"  provider: {phase.calls_in_all} calls ({phase.calls_in_all / instances:.1f} an instance), "
        f"at most {phase.most_calls_in_a_second} in a second, {phase.throttled} throttled"
    )
    print(
        f"  an instance: {phase.transactions / instances:.1f} transactions, {phase.redis_commands / instances:.1f} "
        f"Redis commands"
    )
    print("  messages: " + ", ".join(f"{task} {count}" for task, count in sorted(phase.messages.items()) if count))
    print("  CPU seconds: " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in phase.cpu.items()))


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    cuts = quantiles(seconds, n=20)
    return cuts[9], cuts[18]


def _cpu_seconds(pid: int) -> float:
    root = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:2]) for process in (root, *root.children(recursive=True)))


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value - before.get(name, 0) for name, value in after.items()}


def _delete(api: httpx.Client, url: str) -> httpx.Response:
    return api.delete(url, timeout=60)


if __name__ == "__main__":
    main()
