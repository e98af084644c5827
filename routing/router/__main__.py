"""`python -m routing.router`: one clear line and exit code 2 if a setting is missing or wrong."""

from __future__ import annotations

import os
import sys

from routing.router.config import Config, ConfigError
from routing.router.server import run

if __name__ == "__main__":
    try:
        run(Config.from_environ(os.environ))
    except ConfigError as error:
        print(f"router: {error}", file=sys.stderr)
        sys.exit(2)
