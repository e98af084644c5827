"""Ids by chance, of the schedule's own: what is sorted by them comes in the same order each time."""

from __future__ import annotations

import random
import uuid

from fleet.models import Attempt, Deployment, DeploymentRequest, Instance, Leak, Rental, Sweep

_source = random.Random()


def begin(seed: int) -> None:
    _source.seed(f"ids {seed}")


def plug() -> None:
    """For good: outside of a schedule they are as random as others."""
    for model in (Attempt, Deployment, DeploymentRequest, Instance, Leak, Rental, Sweep):
        field = model._meta.pk
        field.default = _next
        field.__dict__.pop("_get_default", None)


def _next() -> uuid.UUID:
    return uuid.UUID(int=_source.getrandbits(128), version=4)
