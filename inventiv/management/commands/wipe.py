"""`manage.py wipe`: end what runs in INVENTIV_HOME and delete all of it. `make clean` calls it."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from fleet.providers.mock import power
from inventiv.embedded import defaults
from inventiv.stack import leftovers


class Command(BaseCommand):
    help = "End what a killed run left, the mock provider's machines too, and delete everything in INVENTIV_HOME."
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        home = settings.INVENTIV_HOME
        try:
            with leftovers.sole_owner(home):
                leftovers.end_leftovers(home)
                power.wipe(settings.MOCK_HOME)
                shutil.rmtree(defaults.socket_dir(home), ignore_errors=True)
                shutil.rmtree(home)
        except leftovers.AlreadyRunning as running:
            self.stderr.write(f"inventiv: INVENTIV_HOME: {running}")
            sys.exit(2)
        self.stdout.write(f"{home} is gone.")
