"""Secrets at rest, sealed with ENCRYPTION_KEYS: the keys of engines, the credentials of accounts."""

from __future__ import annotations

from functools import cache

from django.conf import settings

from routing.discovery.sealing import Sealer


@cache
def _sealer() -> Sealer:
    return Sealer(settings.ENCRYPTION_KEYS)


def seal(secret: str) -> str:
    return _sealer().seal(secret)


def unseal(sealed: str) -> str:
    """Raises SealBroken if no key of ENCRYPTION_KEYS opens it."""
    return _sealer().unseal(sealed)
