"""Our router beside nginx and, where they are installed, sglang-router, vllm-router and LiteLLM.

    python -m benchmarks.router                          all of it, about half an hour
    python -m benchmarks.router --quick throughput idle  two scenarios, in seconds: whether it works, not how well

Needs Linux, a C compiler and nginx. The others are optional; put them into a virtual environment of their own, for
what they require does not go together with ours, and name it:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install sglang-router vllm-router 'litellm[proxy]'
    python -m benchmarks.router --peers /tmp/peers
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.router import machine, programs
from benchmarks.router.bench import FULL, QUICK, Bench, Effort, Outcome, Scenario
from benchmarks.router.inventiv import Inventiv
from benchmarks.router.report import Run, as_json, as_markdown
from benchmarks.router.routers import Nginx, Router, peers
from benchmarks.router.scenarios import heartbeats, idle, prefixes, selection, streaming, throughput

SCENARIOS: Sequence[Scenario] = (
    throughput.SCENARIO,
    idle.SCENARIO,
    streaming.SOME,
    streaming.MANY,
    selection.SCENARIO,
    heartbeats.SCENARIO,
    prefixes.SCENARIO,
)


def main() -> int:
    options = _options()
    chosen = [each for each in SCENARIOS if not options.scenarios or each.name in options.scenarios]
    try:
        peers_home = options.peers and options.peers.absolute()
        names = options.routers.split(",") if options.routers else None
        found = measure(chosen, effort=QUICK if options.quick else FULL, peers_home=peers_home, names=names)
    except programs.Failed as error:
        print(f"bench-router: {error}", file=sys.stderr)
        return 2
    if options.quick:
        print("A quick run shows that it works. Its figures mean nothing.\n")
    print(as_markdown(found, SCENARIOS))
    options.output.write_text(json.dumps(as_json(found), indent=1) + "\n")
    print(f"\nEvery round is in {options.output}")
    return 0


def measure(
    scenarios: Sequence[Scenario], *, effort: Effort, peers_home: Path | None, names: Sequence[str] | None = None
) -> Run:
    """`names`: of the routers that are wanted; None: all that are here. Raises Failed."""
    here, missing = _sorted_out(peers_home, names)
    for reason in missing.values():
        print(f"left out: {reason}", file=sys.stderr)
    os.sched_setaffinity(0, {machine.LOAD_CPU})
    home = Path(tempfile.mkdtemp(prefix="inv-bench-"))
    try:
        return Run(
            at=datetime.now(UTC),
            machine=machine.description(),
            versions={router.name: router.version() for router in here},
            missing=missing,
            outcomes=_outcomes(scenarios, effort=effort, routers=here, home=home),
        )
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _outcomes(
    scenarios: Sequence[Scenario], *, effort: Effort, routers: Sequence[Router], home: Path
) -> dict[str, Outcome]:
    """What failed is told and left out: the rest of half an hour is not to be lost with it."""
    compiled = programs.compile_all(home)
    outcomes: dict[str, Outcome] = {}
    columns = (TextColumn("{task.description:45}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2) as progress:
        for scenario in scenarios:
            task = progress.add_task(scenario.name)
            bench = Bench(compiled, home, effort, routers, partial(_tell, progress, task, scenario.name))
            progress.update(task, total=scenario.turns(bench))
            try:
                outcomes[scenario.name] = scenario.run(bench)
            except programs.Failed as error:
                print(f"{scenario.name}: left out: {error}", file=sys.stderr)
    return outcomes


def _tell(progress: Progress, task: TaskID, scenario: str, what: str) -> None:
    progress.update(task, description=f"{scenario}: {what}", advance=1)
    if not progress.console.is_terminal:  # a log shows no bar before its end
        print(f"{scenario}: {what}", file=sys.stderr, flush=True)


def _sorted_out(peers_home: Path | None, names: Sequence[str] | None) -> tuple[list[Router], dict[str, str]]:
    known: list[Router] = [Inventiv(), Nginx(), *peers(peers_home)]
    wanted = [router for router in known if names is None or router.name in names]
    missing = {router.name: router.missing() for router in wanted if router.missing()}
    return [router for router in wanted if router.name not in missing], missing


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(each.name for each in SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes: whether it works")
    parser.add_argument(
        "--peers", type=lambda given: Path(given).absolute(), help="a virtual environment that has the others"
    )
    parser.add_argument("--routers", help="only these, by name: inventiv,nginx")
    parser.add_argument("--output", type=Path, default=Path("router-benchmark.json"))
    options = parser.parse_args()
    unknown = set(options.scenarios) - {each.name for each in SCENARIOS}
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
