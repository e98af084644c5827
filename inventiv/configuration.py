"""Bad settings are refused at the start: one line that names the setting, exit code 2, no traceback."""

from __future__ import annotations

import errno
import ipaddress
import math
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import environ
from cryptography.fernet import Fernet

from fleet.providers.credentials import CREDENTIALS, Credential
from routing import addresses

PATIENCE = 3  # seconds that a server has to answer

_NAMES = {int: "a whole number", float: "a number", bool: "true or false"}
_BOOLEANS = frozenset({"1", "0", "true", "false", "yes", "no", "on", "off"})


class BadSetting(Exception):
    """A setting with which nothing can start. Its text is the line that the operator reads."""

    def __init__(self, setting: str, fault: str) -> None:
        super().__init__(f"{setting}: {fault}")


@contextmanager
def refusing() -> Iterator[None]:
    """Turn a BadSetting into its line on standard error and exit code 2."""
    try:
        yield
    except BadSetting as fault:
        print(f"inventiv: {fault}", file=sys.stderr)
        raise SystemExit(2) from None


class Environment(environ.Env):  # type: ignore[misc] # django-environ has no types
    """The environment; an empty variable counts as unset, and what can't be read is refused by name."""

    def get_value(self, var: str, cast: Any = None, default: Any = None, parse_default: bool = False) -> Any:
        raw = self.ENVIRON.get(var, "")
        if not raw.strip():
            return default
        with refusing():
            if cast is bool and raw.strip().lower() not in _BOOLEANS:
                raise BadSetting(var, f"{raw!r} is not {_NAMES[bool]}")
            try:
                return self.parse_value(raw, cast)
            except ValueError:
                raise BadSetting(var, f"{raw!r} is not {_NAMES.get(cast, 'readable')}") from None


# --- what can be said without asking anybody ------------------------------------------------------------------------


def check_url(setting: str, url: str, *, schemes: Sequence[str], example: str) -> None:
    """Raises BadSetting unless `url` has one of `schemes` and names a server."""
    like = f"it should look like {example}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise BadSetting(setting, f"not a URL; {like}") from None
    if parts.scheme not in schemes:
        raise BadSetting(setting, f"begins with {parts.scheme or url[:10]!r}; {like}")
    if not (parts.hostname or parts.path.strip("/")):
        raise BadSetting(setting, f"names no server; {like}")


def check_database_url(url: str) -> None:
    example = "postgres://user:password@host:5432/name"
    check_url("DATABASE_URL", url, schemes=("postgres", "postgresql"), example=example)
    if not urlsplit(url).path.strip("/"):
        raise BadSetting("DATABASE_URL", f"names no database; it should look like {example}")


def check_redis_url(url: str) -> None:
    check_url("REDIS_URL", url, schemes=("redis", "rediss", "unix"), example="redis://host:6379/0")


def check_api_url(setting: str, url: str) -> None:
    check_url(setting, url, schemes=("https", "http"), example="https://api.example.com")


def is_account(provider: str, given: Mapping[str, Any], *, enabled: bool) -> bool:
    """Whether these credentials make an account. Raises BadSetting for half of one, or one that can't be right.

    Not for a provider that is not enabled: its variables may be in the environment for another program.
    """
    try:
        return _is_account(CREDENTIALS[provider], given)
    except BadSetting:
        if enabled:
            raise
        return False


def _is_account(credentials: Sequence[Credential], given: Mapping[str, Any]) -> bool:
    present = [one for one in credentials if given[one.name]]
    if credentials and not present:
        return False
    some_ambient = any(one.is_ambient for one in present)
    for one in credentials:
        if one not in present and (some_ambient or not one.is_ambient):
            raise BadSetting(one.setting, f"not set, though {present[0].setting} is")
    for one in present:
        problem = one.problem(given[one.name])
        if problem:
            raise BadSetting(one.setting, problem)
    return True


def check_encryption_keys(keys: Sequence[str]) -> None:
    for key in keys:
        try:
            Fernet(key)
        except ValueError:
            raise BadSetting(
                "ENCRYPTION_KEYS", "not a list of Fernet keys (32 bytes each, URL-safe base64, comma between two)"
            ) from None


def ingress_cidrs(setting: str, entries: Sequence[str], *, widest: int) -> list[str]:
    """The entries as IPv4 networks, an address as that of one. Raises BadSetting for one wider than /`widest`."""
    return [_network(setting, entry.strip(), widest) for entry in entries]


def _network(setting: str, entry: str, widest: int) -> str:
    try:
        network = ipaddress.ip_network(entry)
    except ValueError as error:
        raise BadSetting(setting, f"{error}; it should look like 203.0.113.7/32") from None
    if network.version != 4:
        raise BadSetting(setting, f"{entry} is not IPv4, over which the machines are reached")
    if network.prefixlen < widest:
        raise BadSetting(setting, f"{entry} is open to the world (wider than /{widest}); name your own addresses")
    return str(network)


def check_port(setting: str, port: int) -> None:
    if not 0 < port < 65536:
        raise BadSetting(setting, f"{port} is not a port (1 to 65535)")


def trusted_proxies(setting: str, words: Sequence[str]) -> tuple[addresses.Network, ...]:
    """Raises BadSetting."""
    try:
        return addresses.networks(words)
    except ValueError as fault:
        raise BadSetting(setting, str(fault)) from None


def rates(setting: str, entries: Sequence[str]) -> dict[str, float]:
    """Numbers above 0 by provider, from NAME=NUMBER. Raises BadSetting."""
    return dict(_rate(setting, entry) for entry in entries)


def _rate(setting: str, entry: str) -> tuple[str, float]:
    name, _, number = entry.partition("=")
    if name.strip() not in CREDENTIALS:
        raise BadSetting(setting, f"{entry!r} names no provider; there are: {', '.join(sorted(CREDENTIALS))}")
    try:
        rate = float(number)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise BadSetting(setting, f"{entry!r} has no number above 0; it should look like aws=10")
    return name.strip(), rate


def check_less(setting: str, value: float, *, than: str, limit: float) -> None:
    if value >= limit:
        raise BadSetting(setting, f"{value} must be less than {than}, which is {limit}")


def check_not_negative(setting: str, value: float) -> None:
    if value < 0:
        raise BadSetting(setting, f"{value} is less than 0")


def check_positive(setting: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise BadSetting(setting, f"{value} is not above 0")


def check_secrets(*, secret_key: str, encryption_keys: Sequence[str], database_url: str) -> None:
    """With a database of one's own nothing is generated: every host must be given the same secrets. Fails closed."""
    missing = [name for name, value in (("SECRET_KEY", secret_key), ("ENCRYPTION_KEYS", encryption_keys)) if not value]
    if not missing:
        return
    # A laptop's user who only mistyped the URL should hear about the URL.
    reach_database(database_url)
    raise BadSetting(
        " and ".join(missing), "not set, though DATABASE_URL is; with your own database, set your own secrets"
    )


# --- what only the servers can say ------------------------------------------------------------------------------------


def reach_database(url: str) -> None:
    """Raises BadSetting unless Postgres answers."""
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=PATIENCE).close()
    except psycopg.Error as error:
        raise BadSetting("DATABASE_URL", _unreachable("DATABASE_URL", "Postgres", _gist(error))) from None


def reach_redis(url: str) -> None:
    """Raises BadSetting unless Redis answers."""
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise BadSetting("REDIS_URL", _unreachable("REDIS_URL", "Redis", _gist(error))) from None


def reach_port(setting: str, host: str, port: int) -> None:
    """Raises BadSetting if nothing of ours could listen there."""
    address = f"{host}:{port}"
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadSetting(setting, f"{address} is in use; end what listens there or choose another port") from None
        raise BadSetting(setting, f"can't listen on {address}: {error.strerror}") from None


def _unreachable(setting: str, server: str, gist: str) -> str:
    if os.environ.get(setting):
        return f"{server} can't be reached: {gist}"
    return f"not set, and the embedded {server} is not running: start it with `make run`, or set {setting}"


def _gist(error: Exception) -> str:
    """The first line that says something, without what libpq wraps around it."""
    lines = [line.strip(" -\t") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    several = lines[0].startswith("Multiple connection attempts")
    return (lines[1] if several and len(lines) > 1 else lines[0]).removeprefix("connection failed: ")
