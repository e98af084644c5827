"""Runs the router under uvicorn, in one process or in several that share a listening socket."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

from routing.router.app import Router
from routing.router.config import Config, ConfigError
from routing.router.sight import shared_counts
from routing.router.wire.http_server import HttpServer

_BACKLOG = 2048


def run(config: Config) -> None:
    """Serve until SIGTERM or SIGINT; then let streams finish, for at most `config.drain_timeout` seconds.

    Raises ConfigError if it can't listen where the settings say."""
    _log(config)
    listener = _listen(config)
    host, port = listener.getsockname()[:2]
    logging.getLogger(__name__).info("the router listens on %s port %d", host, port)
    if config.workers > 1:
        with shared_counts.directory(workers=config.workers):
            Multiprocess(_uvicorn_config(config, "routing.router.server:from_environ", factory=True), [listener]).run()
        return
    router = Router(config)
    _Server(_uvicorn_config(config, router), router).run([listener])


def from_environ() -> Router:
    """For the worker processes, which are started anew and read their settings themselves."""
    config = Config.from_environ(os.environ)
    _log(config)
    return Router(config, environ=os.environ)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, router: Router) -> None:
        super().__init__(config)
        self._router = router

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not uvicorn's own, which dies of the signal once all is done: a stop that was asked for is no failure."""
        self._router.health.stopping = True
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


class _HttpServer(HttpServer):
    """Lets the router know of its connections."""

    def __call__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> asyncio.Protocol:
        cast(Router, config.loaded_app).connections.of_server = server_state.connections
        return super().__call__(config, server_state, app_state, _loop)


def _log(config: Config) -> None:
    logging.basicConfig(level=config.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # A line for every malformed request would let anybody fill the disk.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _listen(config: Config) -> socket.socket:
    try:
        addresses = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"ROUTER_HOST: {config.host}: {error.strerror}") from None
    family, _, _, _, address = addresses[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(f"ROUTER_PORT: can't listen on {config.host}:{config.port}: {error.strerror}") from None
    listener.set_inheritable(True)
    return listener


def _uvicorn_config(config: Config, app: Router | str, *, factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        workers=config.workers,
        loop="uvloop",
        http=_HttpServer(header_timeout=config.header_timeout, write_timeout=config.write_timeout),  # type: ignore[arg-type]
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(config.drain_timeout) or 1,
    )
