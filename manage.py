#!/usr/bin/env python
"""Django's command line: `python manage.py --help` lists what the control plane can do."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inventiv.settings")
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    from inventiv import configuration

    try:
        execute_from_command_line(sys.argv)
    except OperationalError:
        from django.conf import settings

        with configuration.refusing():
            configuration.reach_database(settings.DATABASE_URL)
        raise  # Postgres answers, so the fault is not the operator's


if __name__ == "__main__":
    main()
