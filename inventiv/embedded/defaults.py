"""What the settings fall back to while DATABASE_URL and REDIS_URL are unset. Starts nothing."""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from cryptography.fernet import Fernet

# A Unix socket's path must fit into 107 bytes (unix(7)); Postgres adds "/.s.PGSQL.5432".
_LONGEST_SOCKET_DIR = 85


def socket_dir(home: Path) -> Path:
    """Where the embedded servers put their sockets: under `home` if the path is short enough."""
    inside = home / "run"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET_DIR:
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"inventiv-{digest}"


def database_url(home: Path) -> str:
    return f"postgres://postgres@/postgres?host={quote(str(socket_dir(home)))}"


def redis_url(home: Path) -> str:
    return f"unix://{socket_dir(home)}/redis.sock"


_GENERATORS = {
    "SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "ENCRYPTION_KEYS": lambda: Fernet.generate_key().decode(),
}


def secret(home: Path, name: str) -> str:
    """A secret of this laptop's stack: made at first use, then kept in `home` for its owner's eyes only."""
    path = home / "secrets" / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Whole or not at all: of two processes that start together, both must read the same.
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as draft:
            draft.write(_GENERATORS[name]())
            draft.flush()
            with suppress(FileExistsError):
                os.link(draft.name, path)
    return path.read_text().strip()
