"""Where Redis is, out of a URL as redis-py takes it: redis://, rediss:// (TLS), unix://.

Read here, since importing redis-py for it alone costs each router process 13 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class RedisAddress:
    host: str = "localhost"
    port: int = 6379
    path: str = ""  # of a Unix socket; then host and port say nothing
    username: str = ""
    password: str = ""
    db: int = 0
    tls: bool = False

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises ValueError, which says what is wrong and nothing of the password."""
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise ValueError("a Redis URL begins with redis://, rediss:// or unix://")
        is_socket = parts.scheme == "unix"
        try:
            port = parts.port or 6379
            db = int(_db(parts.query, "" if is_socket else parts.path))
        except ValueError:
            raise ValueError("a Redis URL's port and database are numbers") from None
        return cls(
            host=unquote(parts.hostname or "localhost"),
            port=port,
            path=unquote(parts.path) if is_socket else "",
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            db=db,
            tls=parts.scheme == "rediss",
        )


def _db(query: str, path: str) -> str:
    """`?db=1`, or `/1` where the path is no socket's."""
    return parse_qs(query).get("db", [path.strip("/")])[0] or "0"
