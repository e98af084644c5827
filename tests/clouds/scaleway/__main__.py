"""`python -m tests.clouds.scaleway --port 8060`: the stand-in by itself, on the real clock. Ctrl-C prints the bill."""

from __future__ import annotations

import argparse
import threading
from contextlib import suppress

from tests.clouds.scaleway.http import FakeScaleway, utc_now


def main() -> None:
    parser = argparse.ArgumentParser(description="Scaleway's API, as a stand-in on loopback")
    parser.add_argument("--port", type=int, default=8060)
    with FakeScaleway(port=parser.parse_args().port) as cloud:
        print(f"Scaleway's stand-in answers at {cloud.url}", flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        for line in cloud.bill():
            print(f"{line.kind:7} {line.id} {line.since} .. {line.until} {line.amount(utc_now()):.6f} EUR")


if __name__ == "__main__":
    main()
