"""Who asks: a client by its API key, a worker by its agent's token. Both travel as `Authorization: Bearer`."""

from __future__ import annotations

import hashlib
import time

from routing.discovery.directory import Directory, IndexLost
from routing.discovery.records import ClientKey
from routing.router import errors
from routing.router.asgi import Headers, header


def bearer_sha256(headers: Headers) -> str | None:
    """SHA-256, in hex, of the bearer token; None if there is none."""
    scheme, _, token = (header(headers, b"authorization") or b"").partition(b" ")
    token = token.strip()
    if scheme.lower() != b"bearer" or not token:
        return None
    return hashlib.sha256(token).hexdigest()


async def authenticate(headers: Headers, directory: Directory) -> ClientKey:
    """Raises ApiError."""
    sha256 = bearer_sha256(headers)
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
