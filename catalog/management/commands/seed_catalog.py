"""Fill the catalogue with what we know of providers and models."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.seed import BadSeed, seed


class Command(BaseCommand):
    help = "Create the providers, zones, instance types, prices and models that are missing. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--provider", action="append", default=[], help="only this provider (repeatable), no models"
        )
        parser.add_argument("--update", action="store_true", help="write the files' facts over rows that exist, too")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            tally = seed(only=options["provider"], update=options["update"], dry_run=options["dry_run"])
        except BadSeed as error:
            raise CommandError(str(error)) from error
        if options["dry_run"]:
            self.stdout.write("A dry run: nothing is written.")
        for line in tally.lines():
            self.stdout.write(line)
