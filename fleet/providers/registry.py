"""Which providers there are: one line each, `module:function` of what builds the driver.

Imported at first use, so that a process that asks no cloud does not carry its SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from fleet.providers.base import Provider

DRIVERS = {
    "aws": "fleet.providers.aws:build",
    "mock": "fleet.providers.mock:build",
    "scaleway": "fleet.providers.scaleway:build",
}


def build(name: str, **options: Any) -> Provider:
    """The driver of a provider, made with its own options. Raises LookupError for a provider that has none."""
    if name not in DRIVERS:
        raise LookupError(f"no driver for the provider {name!r}; there are: {', '.join(sorted(DRIVERS))}")
    module, _, function = DRIVERS[name].partition(":")
    factory = cast(Callable[..., Provider], getattr(import_module(module), function))
    return factory(**options)
