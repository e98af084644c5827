"""The router as a plain ASGI application: assembles its parts, finds the way, and turns errors into answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable

from routing.discovery import scripts
from routing.discovery.directory import Directory
from routing.discovery.link import Link
from routing.discovery.sealing import Sealer
from routing.discovery.snapshot import REDRAW_EVERY, Snapshot
from routing.router import errors, heartbeats, limits, served_models
from routing.router.asgi import Headers, Message, Receive, Scope, Send, answer_error, header
from routing.router.config import Config
from routing.router.errors import ApiError
from routing.router.health import Health
from routing.router.heartbeats import Heartbeats
from routing.router.http11 import Pool
from routing.router.limits import AllowedHosts, ClientGone
from routing.router.presence import ANNOUNCE_EVERY, Presence
from routing.router.proxy import Proxy
from routing.router.selection import Selection
from routing.router.served_models import ServedModels

log = logging.getLogger(__name__)

_PROXIED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_WAIT_FOR_REDIS = 1.0  # seconds, at the start
_WAIT_FOR_RELEASES = 2.0  # seconds, at the end


class Router:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._link = Link(config.redis_url, scripts=scripts.FOR_ROUTER)
        self._directory = Directory(
            self._link, stale_after=config.heartbeat_stale_after, snapshot_age=config.snapshot_max_age
        )
        self._snapshot = Snapshot(self._link, stale_after=config.heartbeat_stale_after, max_age=config.snapshot_max_age)
        self._presence = Presence(self._link)
        self._selection = Selection(self._directory, self._snapshot)
        self._upstream = Pool(
            connect_timeout=config.connect_timeout,
            first_byte_timeout=config.first_byte_timeout,
            idle_timeout=config.idle_timeout,
        )
        self._proxy = Proxy(
            config,
            directory=self._directory,
            selection=self._selection,
            upstream=self._upstream,
            sealer=Sealer(config.encryption_keys),
        )
        self._models = ServedModels(directory=self._directory, snapshot=self._snapshot)
        self._heartbeats = Heartbeats(directory=self._directory, trusted_proxies=config.trusted_proxies)
        self._hosts = AllowedHosts(config.allowed_hosts)
        self._clocks: list[asyncio.Task[None]] = []
        self.health = Health(self._snapshot)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = _request_id(scope["headers"])
        scope["state"] = {"request_id": request_id}
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"].append((b"x-request-id", request_id))
            await send(message)

        try:
            await self._dispatch(scope, receive, send_with_id)
        except ApiError as error:
            await answer_error(send_with_id, error)
            if error.status == 413:
                await limits.linger(receive)
        except (ClientGone, OSError):  # OSError: what ASGI has `send` raise once the client is gone
            return
        except Exception:
            log.exception("request %s", request_id.decode())
            if not started:
                await answer_error(send_with_id, errors.our_fault())

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path == "/healthz":
            _allow("GET", method, path)
            return await self.health.alive(send)
        if path == "/readyz":
            _allow("GET", method, path)
            return await self.health.ready(send)
        self._hosts.check(scope["headers"])
        limits.check_framing(scope["headers"])
        if path in _PROXIED:
            _allow("POST", method, path)
            return await self._proxy(scope, receive, send)
        if path == heartbeats.PATH:
            _allow("POST", method, path)
            return await self._heartbeats(scope, receive, send)
        if path == served_models.PATH:
            _allow("GET", method, path)
            return await self._models.list(scope, send)
        if path.startswith(f"{served_models.PATH}/"):
            _allow("GET", method, path)
            return await self._models.retrieve(scope, send)
        raise errors.unknown_path(method, path)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        await self._link.start(wait=_WAIT_FOR_REDIS)
        await self._snapshot.redraw()
        loop = asyncio.get_running_loop()
        self._clocks = [
            loop.create_task(_repeat(self._snapshot.redraw, every=REDRAW_EVERY)),
            loop.create_task(_repeat(self._presence.announce, every=ANNOUNCE_EVERY)),
        ]

    async def _stop(self) -> None:
        self.health.stopping = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._selection.wait_until_idle(), _WAIT_FOR_RELEASES)
        for clock in self._clocks:
            clock.cancel()
        await asyncio.gather(*self._clocks, return_exceptions=True)
        self._upstream.close()
        await self._presence.withdraw()
        await self._link.close()


async def _repeat(step: Callable[[], Awaitable[None]], *, every: float) -> None:
    while True:
        try:
            await step()
        except Exception:
            log.exception("a step of the router's clock failed; it goes on")
        await asyncio.sleep(every)


def _allow(allowed: str, method: str, path: str) -> None:
    if method != allowed:
        raise errors.method_not_allowed(method, path, allow=allowed)


def _request_id(headers: Headers) -> bytes:
    """The client's, if it is harmless; else a new one."""
    given = header(headers, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex.encode()
