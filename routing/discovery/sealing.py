"""Secrets at rest: a worker's key is sealed in Postgres and in Redis alike, and opened only where it is used.

MultiFernet: the first key seals, every key opens, so that keys can be rotated. Fails closed: no key, no start;
what can't be opened raises, and is never passed on as if it were the secret. Never imports Django.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class SealBroken(Exception):
    """A sealed value can't be opened with the keys of ENCRYPTION_KEYS: restore the key that sealed it."""


class Sealer:
    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("ENCRYPTION_KEYS is empty: set at least one Fernet key")
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, secret: str) -> str:
        return self._fernet.encrypt(secret.encode()).decode()

    def unseal(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise SealBroken("this value was sealed with a key that ENCRYPTION_KEYS does not hold") from error
