"""Bring the catalogue in line with what the providers list, without a broker."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from catalog.sync import Report
from fleet.lifecycle import catalogue
from fleet.lifecycle.world import real_world


class Command(BaseCommand):
    help = "Take over zones, GPU types, prices and stock from the providers. What was edited by hand is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("providers", nargs="*", metavar="PROVIDER", help="only these; by default all enabled ones")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self.stdout.write("A dry run: nothing is written.")
        reports = [
            self._show(report)
            for provider in _chosen(options["providers"])
            for report in catalogue.sync_provider(provider, real_world(), dry_run=options["dry_run"])
        ]
        failed = [report.zone or report.provider for report in reports if report.error]
        if failed:
            raise CommandError(f"could not be asked, and left as they were: {', '.join(failed)}")

    def _show(self, report: Report) -> Report:
        subject = f"{report.provider} {report.zone}" if report.zone else f"{report.provider} zones"
        if report.error:
            self.stdout.write(f"{subject}: failed: {report.error}")
            return report
        counts = ", ".join(f"{count} {what}" for what, count in report.counts().items())
        self.stdout.write(f"{subject}: {report.listed} listed; {counts}")
        for line in report.lines():
            self.stdout.write(f"  {line}")
        return report


def _chosen(asked: list[str]) -> list[str]:
    strangers = [name for name in asked if name not in settings.ENABLED_PROVIDERS]
    if strangers:
        enabled = ", ".join(settings.ENABLED_PROVIDERS) or "none"
        raise CommandError(f"not enabled: {', '.join(strangers)}; ENABLED_PROVIDERS has: {enabled}")
    return asked or settings.ENABLED_PROVIDERS
