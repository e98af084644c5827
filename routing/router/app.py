"""The router as a plain ASGI application: assembles its parts, finds the way, and turns errors into answers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from routing.discovery import route_report as reports
from routing.discovery.directory import SCRIPTS, Directory
from routing.discovery.link import Link
from routing.discovery.sealing import Sealer
from routing.discovery.snapshot import REDRAW_EVERY, Snapshot
from routing.router import errors, heartbeats, limits, served_models
from routing.router.asgi import Fields, Receive, Scope, Send, answer_error
from routing.router.bodies import dialects
from routing.router.bodies.surfaces import BY_PATH
from routing.router.choice.selection import Selection
from routing.router.choice.waiting import WaitingRoom
from routing.router.clients.usage import FLUSH_EVERY, UsageReport
from routing.router.config import Config
from routing.router.cors import Cors
from routing.router.errors import ApiError
from routing.router.health import Health
from routing.router.heartbeats import Heartbeats
from routing.router.ids import unique_ids
from routing.router.limits import AllowedHosts, ClientGone
from routing.router.presence import ANNOUNCE_EVERY, Presence
from routing.router.proxy import Proxy
from routing.router.served_models import ServedModels
from routing.router.sight import metrics, route_report
from routing.router.sight.operators import Operators
from routing.router.sight.route_report import RouteReport
from routing.router.sight.sight import Sight
from routing.router.wire import disconnects
from routing.router.wire.connections import Connections
from routing.router.wire.http11 import Pool

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_LET_TRY_EVERY = 0.05  # seconds: who waits for a place looks for what other routers gave back
_GARBAGE = 20_000  # objects more than at the last look, until the collector looks again
_WAIT_FOR_REDIS = 1.0  # seconds, at the start
_WAIT_FOR_RELEASES = 2.0  # seconds, at the end


class Router:
    """Raises ConfigError."""

    def __init__(self, config: Config, *, environ: Mapping[str, str] = MappingProxyType({})) -> None:
        self._link = Link(config.redis_url, scripts=(*SCRIPTS, *reports.SCRIPTS))
        self._presence = Presence(self._link)
        self._directory = Directory(
            self._link,
            router_id=self._presence.router_id,
            stale_after=config.heartbeat_stale_after,
            snapshot_age=config.snapshot_max_age,
        )
        self._link.on_connect = self._directory.correct_running
        self._snapshot = Snapshot(self._link, stale_after=config.heartbeat_stale_after, max_age=config.snapshot_max_age)
        self._waiting_room = WaitingRoom(length=config.queue_length)
        self._selection = Selection(self._directory, self._snapshot, waiting_room=self._waiting_room)
        self._usage = UsageReport(self._link)
        self.connections = Connections()
        operators = Operators(config.operator_networks, trusted_proxies=config.trusted_proxies)
        self._route_report = RouteReport(self._link, operators=operators, stale_after=config.heartbeat_stale_after)
        self.sight = Sight(
            config,
            environ=environ,
            operators=operators,
            link=self._link,
            snapshot=self._snapshot,
            selection=self._selection,
            waiting_room=self._waiting_room,
            connections=self.connections,
        )
        self._upstream = Pool(
            connect_timeout=config.connect_timeout,
            first_byte_timeout=config.first_byte_timeout,
            idle_timeout=config.idle_timeout,
        )
        self._proxy = Proxy(
            config,
            directory=self._directory,
            snapshot=self._snapshot,
            selection=self._selection,
            waiting_room=self._waiting_room,
            upstream=self._upstream,
            sealer=Sealer(config.encryption_keys),
            beginners=self.sight.beginners,
            observers=(self._usage.observe, *self.sight.observers),
        )
        self._models = ServedModels(directory=self._directory, snapshot=self._snapshot)
        self._heartbeats = Heartbeats(directory=self._directory, trusted_proxies=config.trusted_proxies)
        self._hosts = AllowedHosts(config.allowed_hosts)
        self._cors = Cors(config.cors_origins)
        self._ids = unique_ids()
        self._clocks: list[asyncio.Task[None]] = []
        self.health = Health(self._snapshot)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, self._cors.around(scope, send))
        elif scope["type"] == "lifespan":
            await self._live(receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        fields: Fields = dict(scope["headers"])
        request_id = self._request_id(fields)
        scope["state"] = {"request_id": request_id, "fields": fields}
        try:
            await self._dispatch(scope, receive, send)
        except ApiError as error:
            await _answer_error(scope, send, error)
            if error.status == 413:
                await limits.linger(receive)
        except (ClientGone, OSError):  # OSError: what ASGI has `send` raise once the client is gone
            return
        except Exception:
            log.exception("request %s", request_id.decode())
            await _answer_error(scope, send, errors.our_fault())

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        surface = BY_PATH.get(path)
        if surface is not None:
            self._check(scope)
            if method == "OPTIONS":
                return await self._cors.preflight(scope, send)
            _allow("POST", method, path)
            return await self._proxy(scope, receive, send, surface)
        if path == "/healthz":
            _allow("GET", method, path)
            return await self.health.alive(send)
        if path == "/readyz":
            _allow("GET", method, path)
            return await self.health.ready(send)
        if path == metrics.PATH:
            _allow("GET", method, path)
            return await self.sight.metrics.answer(scope, send)
        if path == route_report.PATH:
            _allow("GET", method, path)
            return await self._route_report.answer(scope, send)
        self._check(scope)
        if path == heartbeats.PATH:
            _allow("POST", method, path)
            return await self._heartbeats(scope, receive, send)
        if path == served_models.PATH:
            if method == "OPTIONS":
                return await self._cors.preflight(scope, send)
            _allow("GET", method, path)
            return await self._models.list_all(scope, send)
        if path.startswith(f"{served_models.PATH}/"):
            _allow("GET", method, path)
            return await self._models.retrieve(scope, send)
        raise errors.unknown_path(method, path)

    def _request_id(self, fields: Fields) -> bytes:
        """The client's, if it is harmless; else a new one."""
        given = fields.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return next(self._ids).encode()

    def _check(self, scope: Scope) -> None:
        self._hosts.check(scope["state"]["fields"])
        if disconnects.EXTENSION not in scope.get("extensions", ()):
            limits.check_framing(scope["headers"])  # our own server has done it

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        await self._link.start(wait=_WAIT_FOR_REDIS)
        await self._presence.announce()
        await self._snapshot.redraw()
        _collect_garbage_seldom()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ValueError, NotImplementedError):  # not in the main thread, not on this system
            loop.add_signal_handler(signal.SIGHUP, self.sight.reopen_logs)
        self._clocks = [
            loop.create_task(_repeat(self._snapshot.redraw, every=REDRAW_EVERY)),
            loop.create_task(_repeat(self._say_who_is_here, every=ANNOUNCE_EVERY)),
            loop.create_task(_repeat(self._usage.flush, every=FLUSH_EVERY)),
            loop.create_task(_repeat(self._let_wait, every=_LET_TRY_EVERY)),
            loop.create_task(_repeat(self.sight.metrics.save, every=metrics.SAVE_EVERY)),
        ]

    async def _say_who_is_here(self) -> None:
        await self._presence.announce()
        self._directory.correct_running()

    async def _let_wait(self) -> None:
        self._waiting_room.tick()

    async def _stop(self) -> None:
        self.health.stopping = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._selection.wait_until_idle(), _WAIT_FOR_RELEASES)
        for clock in self._clocks:
            clock.cancel()
        await asyncio.gather(*self._clocks, return_exceptions=True)
        self._upstream.close()
        await self._usage.flush()
        await self.sight.close()
        await self._presence.withdraw()
        await self._link.close()


def _collect_garbage_seldom() -> None:
    """What is there now stays; and a request leaves hardly a cycle behind. Looking for some after each few requests
    costs 8 % of a core."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE, 20, 100)


async def _repeat(step: Callable[[], Awaitable[None]], *, every: float) -> None:
    while True:
        try:
            await step()
        except Exception:
            log.exception("a step of the router's clock failed; it goes on")
        await asyncio.sleep(every)


async def _answer_error(scope: Scope, send: Send, error: ApiError) -> None:
    body = dialects.envelope(error, BY_PATH.get(scope["path"]))
    await answer_error(send, error, body=body, request_id=scope["state"]["request_id"])


def _allow(allowed: str, method: str, path: str) -> None:
    if method != allowed:
        raise errors.method_not_allowed(method, path, allow=allowed)
