"""`manage.py run`: the whole system on this machine, until Ctrl-C. `make run` calls it."""

from __future__ import annotations

import logging
import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from rich.console import Console

from inventiv import configuration
from inventiv.embedded.servers import ServerFailed
from inventiv.stack import launch
from inventiv.stack.demonstration import MODEL
from inventiv.stack.failure import StackFailed
from inventiv.stack.leftovers import AlreadyRunning


class Command(BaseCommand):
    help = "Run the whole system on this machine until Ctrl-C; deploys a small model on the mock provider for a start."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", default=MODEL, help=f"what to deploy (default: {MODEL})")
        parser.add_argument("--no-demo", action="store_true", help="deploy nothing")

    def handle(self, *args: Any, no_demo: bool, model: str, **options: Any) -> None:
        logging.getLogger().setLevel(logging.WARNING)  # the display shows what happens
        try:
            with configuration.refusing():
                launch.run(settings.INVENTIV_HOME, console=Console(), model=None if no_demo else model)
        except AlreadyRunning as running:
            self.stderr.write(f"inventiv: INVENTIV_HOME: {running}")
            sys.exit(2)
        except (StackFailed, ServerFailed) as failure:
            self.stderr.write(f"inventiv: {failure}")
            sys.exit(1)
