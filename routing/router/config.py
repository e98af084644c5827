"""The router's settings, read from the environment. `.env.example` says what each means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from routing import addresses
from routing.discovery import timing
from routing.discovery.redis_url import RedisAddress
from routing.discovery.sealing import Sealer


class ConfigError(Exception):
    """A setting is missing or wrong; the message names it. Mend the environment and start again."""


@dataclass(frozen=True)
class Config:
    """Times are seconds, sizes bytes."""

    redis_url: str
    encryption_keys: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    trusted_proxies: tuple[addresses.Network, ...] = ()
    log_level: str = "INFO"
    operator_networks: tuple[addresses.Network, ...] = addresses.LOOPBACK  # who may ask for /metrics and /debug
    access_log: str = ""  # path of a file, or "-" for standard output; "" = none
    tracing: float | None = None  # the share of requests that begin a trace, where the client has not; None = no traces
    heartbeat_stale_after: float = timing.HEARTBEAT_STALE_AFTER
    max_body_bytes: int = 10 * 1024 * 1024
    max_upload_bytes: int = 100 * 1024 * 1024  # of a form with a file, which is passed on as it comes
    body_timeout: float = 60.0  # for a request's body to arrive; a form's may take a second more for each 20 kB
    header_timeout: float = 10.0  # for a request's head to arrive
    write_timeout: float = 60.0  # for a client to take some of what it was sent
    connect_timeout: float = 3.0
    first_byte_timeout: float = 300.0
    idle_timeout: float = 60.0  # between two chunks of an answer
    total_timeout: float = 3600.0
    drain_timeout: float = 120.0  # for streams to finish after SIGTERM
    snapshot_max_age: float = 60.0  # how long to serve without Redis
    queue_length: int = 1000  # requests that may wait for a model whose instances are all full
    queue_timeout: float = 30.0
    session_header: str = "x-session-id"  # requests with the same value go to the same instance
    cors_origins: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Raises ConfigError."""
        read = _Reader(environ)
        return cls(
            redis_url=read.redis_url("REDIS_URL"),
            encryption_keys=read.encryption_keys("ENCRYPTION_KEYS"),
            host=read.text("ROUTER_HOST", cls.host),
            port=int(read.number("ROUTER_PORT", cls.port, whole=True, at_least=0, at_most=65535)),
            workers=read.workers("ROUTER_WORKERS", cls.workers),
            allowed_hosts=read.words("ALLOWED_HOSTS", cls.allowed_hosts),
            trusted_proxies=read.networks("ROUTER_TRUSTED_PROXIES"),
            log_level=read.log_level("LOG_LEVEL", cls.log_level),
            operator_networks=read.networks("ROUTER_METRICS_CIDRS") or cls.operator_networks,
            access_log=read.text("ROUTER_ACCESS_LOG", cls.access_log),
            tracing=read.share("ROUTER_TRACING"),
            heartbeat_stale_after=read.number("HEARTBEAT_STALE_AFTER", cls.heartbeat_stale_after),
            max_body_bytes=int(read.number("MAX_BODY_BYTES", cls.max_body_bytes, whole=True, at_least=1)),
            max_upload_bytes=int(read.number("ROUTER_MAX_UPLOAD_BYTES", cls.max_upload_bytes, whole=True, at_least=1)),
            header_timeout=read.number("ROUTER_HEADER_TIMEOUT", cls.header_timeout),
            body_timeout=read.number("ROUTER_BODY_TIMEOUT", cls.body_timeout),
            write_timeout=read.number("ROUTER_WRITE_TIMEOUT", cls.write_timeout),
            connect_timeout=read.number("ROUTER_CONNECT_TIMEOUT", cls.connect_timeout),
            first_byte_timeout=read.number("ROUTER_FIRST_BYTE_TIMEOUT", cls.first_byte_timeout),
            idle_timeout=read.number("ROUTER_IDLE_TIMEOUT", cls.idle_timeout),
            total_timeout=read.number("ROUTER_TOTAL_TIMEOUT", cls.total_timeout),
            drain_timeout=read.number("ROUTER_DRAIN_TIMEOUT", cls.drain_timeout),
            snapshot_max_age=read.number("ROUTER_SNAPSHOT_MAX_AGE", cls.snapshot_max_age),
            queue_length=int(read.number("ROUTER_QUEUE_LENGTH", cls.queue_length, whole=True, at_least=0)),
            queue_timeout=read.number("ROUTER_QUEUE_TIMEOUT", cls.queue_timeout),
            session_header=read.text("ROUTER_SESSION_HEADER", cls.session_header).lower(),
            cors_origins=read.words("ROUTER_CORS_ORIGINS", cls.cors_origins),
        )


class _Reader:
    """An empty value counts as unset, as Compose passes it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, name: str, default: str) -> str:
        return self._environ.get(name, "").strip() or default

    def words(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(word.strip() for word in self._environ.get(name, "").split(",") if word.strip())
        return found or default

    def number(
        self,
        name: str,
        default: float,
        *,
        whole: bool = False,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> float:
        raw = self.text(name, str(default))
        try:
            value = int(raw) if whole else float(raw)
        except ValueError:
            raise ConfigError(f"{name}: {raw!r} is not a {'whole ' if whole else ''}number") from None
        if not (value > 0 if at_least is None else value >= at_least) or value == float("inf"):
            raise ConfigError(f"{name}: {raw} is too {'large' if value > 0 else 'small'}")
        if at_most is not None and value > at_most:
            raise ConfigError(f"{name}: {raw} is more than {at_most:g}")
        return value

    def workers(self, name: str, default: int) -> int:
        if self.text(name, "").lower() == "auto":
            return len(os.sched_getaffinity(0))  # the cores that we may use, which may be fewer than there are
        return int(self.number(name, default, whole=True, at_least=1))

    def share(self, name: str) -> float | None:
        if not self.text(name, ""):
            return None
        return self.number(name, 0, at_least=0, at_most=1)

    def networks(self, name: str) -> tuple[addresses.Network, ...]:
        try:
            return addresses.networks(self.words(name, ()))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None

    def log_level(self, name: str, default: str) -> str:
        level = self.text(name, default).upper()
        if level not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ConfigError(f"{name}: {level!r} is none of DEBUG, INFO, WARNING, ERROR, CRITICAL")
        return level

    def redis_url(self, name: str) -> str:
        url = self._required(name)
        try:
            RedisAddress.of(url)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
        return url

    def encryption_keys(self, name: str) -> tuple[str, ...]:
        self._required(name)
        found = self.words(name, ())
        try:
            Sealer(found)
        except ValueError:
            raise ConfigError(f"{name}: not a comma-separated list of Fernet keys") from None
        return found

    def _required(self, name: str) -> str:
        value = self.text(name, "")
        if not value:
            raise ConfigError(f"{name} is not set")
        return value
