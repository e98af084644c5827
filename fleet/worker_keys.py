"""The secrets of a worker: the key of its engine (sealed at rest) and the token that its machine boots with."""

from __future__ import annotations

import hashlib
import secrets
import uuid

from django.utils.crypto import salted_hmac

from fleet import sealing


def new_engine_key() -> str:
    """A fresh key for an engine, sealed."""
    return sealing.seal(secrets.token_urlsafe(32))


def open_engine_key(sealed: str) -> str:
    """Raises SealBroken if no key of ENCRYPTION_KEYS opens it."""
    return sealing.unseal(sealed)


def bootstrap_token(attempt_id: uuid.UUID) -> str:
    """The one-time token in an attempt's user_data.

    Derived, not stored: a step that is repeated hands the machine the very same bytes, which an AWS ClientToken
    demands, and the database holds nothing but its hash.
    """
    return salted_hmac("fleet.bootstrap", str(attempt_id), algorithm="sha256").hexdigest()


def sha256(token: str) -> str:
    """In hex. The tokens are random enough that a plain fast hash is safe."""
    return hashlib.sha256(token.encode()).hexdigest()
