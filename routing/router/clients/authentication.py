"""Who asks: a client by its API key, a worker by its agent's token."""

from __future__ import annotations

import hashlib
import time

from routing.discovery.directory import Directory, IndexLost
from routing.discovery.records import ClientKey
from routing.router import errors
from routing.router.asgi import Fields


def bearer_sha256(fields: Fields) -> str | None:
    """SHA-256, in hex, of the bearer token; None if there is none."""
    scheme, _, token = fields.get(b"authorization", b"").partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        return None
    return hashlib.sha256(token).hexdigest()


async def authenticate(fields: Fields, directory: Directory) -> ClientKey:
    """By the bearer token, or by `x-api-key`, as Anthropic's clients send it. Raises ApiError."""
    sha256 = bearer_sha256(fields) or _api_key_sha256(fields)
    if sha256 is None:
        raise errors.invalid_key("No API key: send it as 'Authorization: Bearer inv_...'")
    try:
        key = await directory.client_key(sha256)
    except IndexLost:
        raise errors.index_lost() from None
    if key is None:
        raise errors.invalid_key("This API key is not valid")
    if key.expires_at and key.expires_at <= time.time():
        raise errors.invalid_key("This API key has expired")
    return key


def _api_key_sha256(fields: Fields) -> str | None:
    key = fields.get(b"x-api-key", b"").strip()
    return hashlib.sha256(key).hexdigest() if key else None
