"""Look at the mock cloud, and make it misbehave."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.management.tables import table
from fleet.providers.base import TAG_INSTANCE, ProviderError
from fleet.providers.mock import machine, power
from fleet.providers.mock.bill import bill
from fleet.providers.mock.chaos import SETTINGS, BadSetting, Chaos
from fleet.providers.mock.store import Server, Store

_DESCRIPTION = """\
The mock cloud is a provider whose machines are processes on this computer. It keeps books of its own in MOCK_HOME, as a
cloud would, whatever our database says. An ID is the beginning of a server's id, or of its instance's id.
"""


class Command(BaseCommand):
    help = "Look at the mock cloud, and make it misbehave: stockouts, lost answers, machines that die or freeze."
    requires_system_checks: list[str] | tuple[str, ...] = ()
    requires_migrations_checks = False

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.description = _DESCRIPTION
        return parser

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
        for name, words in (("ls", "the servers that exist"), ("bill", "what was rented, since when, and its cost")):
            commands.add_parser(name, help=words).add_argument("--json", action="store_true", help="as JSON")
        self._add_chaos(commands.add_parser("chaos", help="the faults: show them, set one, clear all"))
        for name, words in (
            ("interrupt", "the cloud announces that it takes a spot machine back in two minutes, and does"),
            ("kill", "a machine dies (kill -9)"),
            ("freeze", "a machine hangs; its connections stay open"),
            ("thaw", "a frozen machine goes on"),
        ):
            commands.add_parser(name, help=words).add_argument("id", metavar="ID")
        commands.add_parser("suspend", help="stop all machines, and remember which ran")
        commands.add_parser("resume", help="start again what was suspended")
        commands.add_parser("wipe", help="end all machines; forget all servers, bills and settings")

    def _add_chaos(self, parser: argparse.ArgumentParser) -> None:
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.epilog = "settings:\n" + "\n".join(
            f"  {name:<22}{setting.meaning} (default: {setting.default or 'none'})"
            for name, setting in SETTINGS.items()
        )
        actions = parser.add_subparsers(dest="action", metavar="ACTION")
        actions.add_parser("show", help="all settings and their values (this is the default)")
        change = actions.add_parser("set", help="change a setting; every process sees it at its next call")
        change.add_argument("name", metavar="NAME", choices=list(SETTINGS))
        change.add_argument("value", metavar="VALUE")
        actions.add_parser("clear", help="back to the defaults, all of them")

    def handle(self, *, subcommand: str, **options: Any) -> None:
        home = Path(settings.MOCK_HOME)
        try:
            getattr(self, f"_{subcommand}")(home, options)
        except (LookupError, BadSetting, ProviderError) as error:
            raise CommandError(str(error.args[0] if error.args else error)) from error

    # --- looking --------------------------------------------------------------------------------------------------

    def _ls(self, home: Path, options: Mapping[str, Any]) -> None:
        with Store(home).transaction() as books:
            servers = books.servers()
        rows = [
            {
                "id": server.id,
                "instance_id": server.tags.get(TAG_INSTANCE, ""),
                "type": server.instance_type,
                "zone": server.zone,
                "state": _state(server),
                "address": server.address,
                "since": server.created_at,
            }
            for server in servers
        ]
        self._print(rows, as_json=options["json"], empty="The mock cloud runs nothing.")

    def _bill(self, home: Path, options: Mapping[str, Any]) -> None:
        account = bill(Store(home), now=datetime.now(UTC))
        lines = [asdict(line) for line in account.lines]
        if options["json"]:
            document = {"lines": lines, "total": account.total, "per_hour": account.per_hour}
            self.stdout.write(json.dumps(document, indent=2, default=_plain))
            return
        self._print(lines, as_json=False, empty="Nothing was ever rented.")
        self.stdout.write(f"\nspent: {_money(account.total)}; now, per hour: {_money(account.per_hour)}")

    def _print(self, rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str) -> None:
        if as_json:
            self.stdout.write(json.dumps(rows, indent=2, default=_plain))
        elif not rows:
            self.stdout.write(empty)
        else:
            for line in table([list(rows[0]), *([_plain(value) for value in row.values()] for row in rows)]):
                self.stdout.write(line)

    # --- making trouble -------------------------------------------------------------------------------------------

    def _chaos(self, home: Path, options: Mapping[str, Any]) -> None:
        with Store(home).transaction() as books:
            chaos = Chaos(books)
            if options["action"] == "set":
                chaos.set(options["name"], options["value"])
            elif options["action"] == "clear":
                chaos.clear()
            values = chaos.values()
        for name, value in values.items():
            mark = "" if value == SETTINGS[name].default else "  <- set"
            self.stdout.write(f"{name:<22} {value or 'none'}{mark}")

    def _interrupt(self, home: Path, options: Mapping[str, Any]) -> None:
        server, at = power.interrupt(home, options["id"], now=datetime.now(UTC))
        self.stdout.write(f"{server.id} is taken back at {at:%H:%M:%S} UTC, and has been told.")

    def _kill(self, home: Path, options: Mapping[str, Any]) -> None:
        self.stdout.write(f"{power.kill(home, options['id']).id} is dead.")

    def _freeze(self, home: Path, options: Mapping[str, Any]) -> None:
        self.stdout.write(f"{power.freeze(home, options['id']).id} is frozen.")

    def _thaw(self, home: Path, options: Mapping[str, Any]) -> None:
        self.stdout.write(f"{power.thaw(home, options['id']).id} goes on.")

    def _suspend(self, home: Path, options: Mapping[str, Any]) -> None:
        self.stdout.write(f"Machines stopped: {power.suspend(home)}.")

    def _resume(self, home: Path, options: Mapping[str, Any]) -> None:
        self.stdout.write(f"Machines started again: {power.resume(home, now=datetime.now(UTC))}.")

    def _wipe(self, home: Path, options: Mapping[str, Any]) -> None:
        self.stdout.write(f"Servers ended and forgotten: {power.wipe(home)}.")


def _state(server: Server) -> str:
    if server.deleting_at is not None:
        return "deleting"
    if not machine.is_on(server):
        return "suspended" if server.suspended else "stopped"
    return "frozen" if machine.is_frozen(server) else "on"


def _plain(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return value.isoformat(timespec="seconds")
        case Decimal():
            return format(value.quantize(Decimal("0.000001")), "f")
        case _:
            return str(value)


def _money(amounts: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{_plain(amount)} {currency}" for currency, amount in amounts.items()) or "nothing"
