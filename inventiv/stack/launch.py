"""The life of a stack: brought up step by step, shown, watched, and taken down whatever happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx
from django.conf import settings
from django.db import connections
from django.utils import timezone
from rich.console import Console

from fleet.providers.mock import power
from inventiv import configuration
from inventiv.embedded import servers
from inventiv.stack import leftovers, preparation, programs, welcome
from inventiv.stack.demonstration import QUESTION, Demonstration
from inventiv.stack.display import Progress
from inventiv.stack.failure import StackFailed
from inventiv.stack.supervision import ProgramState, Supervisor

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 60.0  # seconds in which processes must come up
_LOOK_EVERY = 2.0
_DOWN_FOR = 15.0  # a program that is down for so long is worth a line


def run(home: Path, *, console: Console, model: str | None) -> None:
    """Run the stack of `home` until a signal comes, with `model` deployed for a start if one is named.

    Raises BadSetting, AlreadyRunning, StackFailed. Nothing that it started outlives it.
    """
    with leftovers.sole_owner(home), _signals_interrupt():
        if leftovers.end_leftovers(home):
            console.print("An earlier run was killed; what it left has been stopped.")
        _check_settings()
        try:
            supervisor = Supervisor(home)
            key = _bring_up(home, supervisor, console, model=model)
            _tell(welcome.addresses() + (welcome.examples(key=key, model=model) if model else ""))
            _watch(supervisor, console)
        except KeyboardInterrupt as signalled:
            console.print(f"\nStopping ({signalled}) ...")
        finally:
            _take_down(home)


def _check_settings() -> None:
    configuration.reach_port("API_PORT", settings.API_HOST, settings.API_PORT)
    configuration.reach_port("ROUTER_PORT", settings.ROUTER_HOST, settings.ROUTER_PORT)
    if not servers.is_wanted("DATABASE_URL"):
        configuration.reach_database(settings.DATABASE_URL)
    if not servers.is_wanted("REDIS_URL"):
        configuration.reach_redis(settings.REDIS_URL)


# --- up -------------------------------------------------------------------------------------------------------------


def _bring_up(home: Path, supervisor: Supervisor, console: Console, *, model: str | None) -> str:
    """Returns an API key of this stack."""
    with Progress(console) as progress:
        with progress.step("databases") as step:
            step.detail = _start_databases(home, supervisor)
        with progress.step("tables"):
            preparation.migrate()
        with progress.step("catalogue") as step:
            step.detail = preparation.seed()
        password = preparation.make_admin()
        if password is not None:
            # At once: a failure further on must not lose what can't be shown again.
            console.print(f"Admin {preparation.ADMIN_EMAIL}, password {password} (shown this once)", highlight=False)
        key = preparation.make_key(home)
        connections.close_all()
        with progress.step("processes") as step:
            preparation.collect_static()
            step.detail = _start_processes(supervisor)
        if model is None:
            return key
        demonstration = Demonstration(api_url=welcome.api_url(), router_url=welcome.router_url(), key=key, model=model)
        demonstration.deploy(progress, patience=settings.PROVISIONING_DEADLINE + settings.BOOT_DEADLINE)
    with closing(demonstration):
        _show_answer(demonstration)
    return key


def _start_databases(home: Path, supervisor: Supervisor) -> str:
    embedded = servers.prepare(home)
    supervisor.start(
        [*map(programs.database, embedded), *programs.processes(home, concurrency=settings.ORCHESTRATOR_CONCURRENCY)],
        environment=_environment(home),
        directory=settings.BASE_DIR,
    )
    if not embedded:
        return "of DATABASE_URL and REDIS_URL"
    supervisor.start_group(programs.DATABASES)
    for server in embedded:
        _wait(server.answers, supervisor, server.name)
    return ", ".join(server.title for server in embedded)


def _start_processes(supervisor: Supervisor) -> str:
    power.resume(settings.MOCK_HOME, now=timezone.now())
    supervisor.start_group(programs.PROCESSES)
    _wait(lambda: _says(f"{welcome.api_url()}/healthz"), supervisor, "api")
    _wait(lambda: _says(f"{welcome.router_url()}/healthz"), supervisor, "router")
    # Only an orchestrator whose clocks tick is one, whatever its process looks like.
    _wait(lambda: _says(f"{welcome.api_url()}/readyz", status="ok"), supervisor, "orchestrator", "beat")
    return ", ".join(state.name for state in supervisor.states() if state.group == programs.PROCESSES)


def _environment(home: Path) -> dict[str, str]:
    """What every process of the stack finds in its environment: ours, and the settings that only we could know."""
    return os.environ | {
        leftovers.MARK: str(home),
        "INVENTIV_HOME": str(home),
        "DATABASE_URL": settings.DATABASE_URL,
        "REDIS_URL": settings.REDIS_URL,
        "SECRET_KEY": settings.SECRET_KEY,
        "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
        "PYTHONUNBUFFERED": "1",
    }


def _wait(condition: Callable[[], bool], supervisor: Supervisor, *names: str) -> None:
    """Until the condition holds, which is up to the programs of these names."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            states = [state for state in supervisor.states() if state.name in names]
            culprit = min(states, key=lambda state: state.is_up)
            raise StackFailed(f"{culprit.name} did not come up; {culprit.log} ends with: {culprit.last_words()}")
        time.sleep(0.1)


def _says(url: str, **expected: str) -> bool:
    """Whether a JSON document is served there that says what is expected."""
    try:
        answer = httpx.get(url, timeout=2)
        return answer.is_success and expected.items() <= answer.json().items()
    except (httpx.HTTPError, ValueError):
        return False


def _show_answer(demonstration: Demonstration) -> None:
    demonstration.wait_until_routed()
    _tell(f"\n> {QUESTION}\n")
    for piece in demonstration.ask():
        print(piece, end="", flush=True)
    print()


def _tell(text: str) -> None:
    # Not through rich, which would wrap what is there to be copied.
    print(text, flush=True)


# --- while it runs ----------------------------------------------------------------------------------------------------


def _watch(supervisor: Supervisor, console: Console) -> None:
    """Quiet while all is well; a line when a program stays down, and another when it is back."""
    console.print("Ctrl-C stops it all.")
    up_at: dict[str, float] = {}
    reported: set[str] = set()
    while True:
        for state in _states(supervisor):
            if state.is_up:
                up_at[state.name] = time.monotonic()
                if state.name in reported:
                    reported.discard(state.name)
                    console.print(f"{state.name} is back")
            elif _is_worth_a_line(state, up_at) and state.name not in reported:
                reported.add(state.name)
                console.print(f"{state.name} is down ({state.state}); see {state.log}", style="red", soft_wrap=True)
        time.sleep(_LOOK_EVERY)


def _states(supervisor: Supervisor) -> Sequence[ProgramState]:
    if not supervisor.is_alive():
        raise StackFailed(f"supervisord is gone; see {supervisor.logs / 'supervisord.log'}")
    return supervisor.states()


def _is_worth_a_line(state: ProgramState, up_at: dict[str, float]) -> bool:
    return state.state == "FATAL" or time.monotonic() - up_at.setdefault(state.name, time.monotonic()) > _DOWN_FOR


# --- down -------------------------------------------------------------------------------------------------------------


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Any polite request to end is a KeyboardInterrupt."""
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _take_down(home: Path) -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # once is enough
    connections.close_all()
    leftovers.end_leftovers(home)
    # Last: the control plane must not see its machines go.
    power.suspend(settings.MOCK_HOME)
