"""Defaults of the two clocks that the worker's agent, the router and the orchestrator share. Seconds."""

from __future__ import annotations

HEARTBEAT_INTERVAL = 5.0  # how often a worker is heard
HEARTBEAT_STALE_AFTER = 15.0  # silence after which the router sends it nothing more
