"""A cloud on this machine: its servers are processes, its books a file. For laptops, tests and demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleet.providers.mock.provider import MockProvider


def build(*, home: Path) -> MockProvider:
    """The mock cloud that keeps its machines and its books in `home`."""
    # Not at the top: each machine's engine imports this package too, and is to stay small.
    from fleet.providers.mock.provider import MockProvider

    return MockProvider(home)
