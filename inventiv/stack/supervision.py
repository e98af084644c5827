"""supervisord over the stack's programs: it restarts what ends; we only tell it what to run, and ask how it is."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from inventiv.embedded import defaults
from inventiv.stack.failure import StackFailed
from inventiv.stack.programs import Program

_SETTINGS = """\
[unix_http_server]
file = {socket}
chmod = 0700

[supervisord]
nodaemon = true
silent = true
{user}directory = {directory}
logfile = {logs}/supervisord.log
logfile_maxbytes = 5MB
logfile_backups = 1
pidfile = {home}/supervisord.pid
childlogdir = {logs}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
"""

# A signal to the whole group would tear running tasks out of Celery's pool; a kill must leave nobody behind.
_PROGRAM = """
[program:{name}]
command = {command}
{user}autostart = false
autorestart = true
startretries = 1000
stopsignal = {signal}
stopwaitsecs = {seconds}
stopasgroup = false
killasgroup = true
redirect_stderr = true
stdout_logfile = {log}
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 2
"""

_GROUP = """
[group:{name}]
programs = {programs}
priority = {priority}
"""


@dataclass(frozen=True, slots=True)
class ProgramState:
    name: str
    group: str
    state: str  # supervisord's word: RUNNING, STARTING, BACKOFF, FATAL, ...
    pid: int  # 0: not running
    log: Path

    @property
    def is_up(self) -> bool:
        return self.state == "RUNNING"

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "(empty)"


class Supervisor:
    """The supervisord of one home: at most one, found again through its socket."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.logs = home / "log"
        self._socket = defaults.socket_dir(home) / "supervisor.sock"
        self._config = home / "supervisord.conf"

    def is_alive(self) -> bool:
        return self.pid() is not None

    def pid(self) -> int | None:
        try:
            return int(str(self._ask("supervisor.getPID")))
        except (OSError, HTTPException, Fault):
            return None

    def start(self, programs: Sequence[Program], *, environment: Mapping[str, str], directory: Path) -> None:
        """Start supervisord with `programs`, none of them running yet. Raises StackFailed if it does not come up."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self._socket.parent.mkdir(parents=True, exist_ok=True)
        self._config.write_text(self._render(programs, directory))
        with (self.logs / "supervisord.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - the command is ours
                (sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop it in good order
            )
        deadline = time.monotonic() + 15
        while not self.is_alive():
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise StackFailed(f"supervisord did not start, see {self.logs / 'supervisord.log'}")
            time.sleep(0.05)

    def start_group(self, group: str) -> None:
        self._ask("supervisor.startProcessGroup", group, False)

    def start_program(self, name: str) -> None:
        """`name` is "group:program"."""
        self._ask("supervisor.startProcess", name, False)

    def stop_program(self, name: str) -> None:
        """Stop it until it is started again. `name` is "group:program"."""
        self._ask("supervisor.stopProcess", name)

    def states(self) -> list[ProgramState]:
        answer = self._ask("supervisor.getAllProcessInfo")
        assert isinstance(answer, list)  # noqa: S101 - supervisord's documented answer
        return [
            ProgramState(
                name=str(info["name"]),
                group=str(info["group"]),
                state=str(info["statename"]),
                pid=int(info["pid"]),
                log=self.logs / f"{info['name']}.log",
            )
            for info in answer
        ]

    def stop(self, *, timeout: float = 60.0) -> None:
        """Stop every program, then supervisord. Returns when all are gone; does nothing if there is none."""
        pid = self.pid()
        if pid is None:
            return
        supervisord = psutil.Process(pid)
        self._ask("supervisor.shutdown")
        try:
            supervisord.wait(timeout)
        except psutil.TimeoutExpired:
            supervisord.kill()
            supervisord.wait(5)

    def _ask(self, method: str, *arguments: object) -> object:
        # A connection of its own for each question: one that broke would not mend itself.
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            remote = ServerProxy("http://127.0.0.1", transport=transport)
            return getattr(remote, method)(*arguments)
        finally:
            transport.close()

    # --- the configuration file -----------------------------------------------------------------------------------

    def _render(self, programs: Sequence[Program], directory: Path) -> str:
        groups = list(dict.fromkeys(program.group for program in programs))
        sections = [
            _SETTINGS.format(
                socket=_plain(self._socket),
                directory=_plain(directory),
                logs=_plain(self.logs),
                home=_plain(self.home),
                user="user = root\n" if os.geteuid() == 0 else "",
            )
        ]
        sections += [self._program(program) for program in programs]
        for priority, group in enumerate(groups):  # the first group starts first and stops last
            members = ",".join(program.name for program in programs if program.group == group)
            sections.append(_GROUP.format(name=group, programs=members, priority=priority))
        return "".join(sections)

    def _program(self, program: Program) -> str:
        return _PROGRAM.format(
            name=program.name,
            command=_plain(shlex.join(program.command)),
            user=f"user = {program.user}\n" if program.user else "",
            signal=program.stop_signal,
            seconds=program.stop_seconds,
            log=_plain(_plain(self.logs / f"{program.name}.log")),  # the one value that it expands twice
        )


def _plain(value: object) -> str:
    """supervisord expands `%(name)s`: a percent sign that means itself is doubled."""
    return str(value).replace("%", "%%")
