"""What the router lets others see of itself: metrics always, an access log and traces where the settings want them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from routing.discovery.link import Link
from routing.discovery.snapshot import Snapshot
from routing.router.choice.selection import Selection
from routing.router.choice.waiting import WaitingRoom
from routing.router.config import Config
from routing.router.passage import Beginner, Observer
from routing.router.sight import shared_counts
from routing.router.sight.access_log import AccessLog
from routing.router.sight.counts import Reading
from routing.router.sight.metrics import Metrics
from routing.router.sight.operators import Operators
from routing.router.sight.tracing import Tracing
from routing.router.wire.connections import Connections


class Sight:
    """Raises ConfigError."""

    def __init__(
        self,
        config: Config,
        *,
        environ: Mapping[str, str],
        operators: Operators,
        link: Link,
        snapshot: Snapshot,
        selection: Selection,
        waiting_room: WaitingRoom,
        connections: Connections,
    ) -> None:
        self._link = link
        self._snapshot = snapshot
        self._selection = selection
        self._waiting_room = waiting_room
        self._connections = connections
        self._access_log: AccessLog | None = None
        self._tracing: Tracing | None = None
        if config.access_log:
            self._access_log = AccessLog(config.access_log, trusted_proxies=config.trusted_proxies)
        if config.tracing is not None:
            self._tracing = Tracing(share=config.tracing)
        self.metrics = Metrics(
            models=lambda: snapshot.models,
            read=self._read,
            operators=operators,
            shared=shared_counts.from_environ(environ),
        )
        selection.on_failed = self.metrics.upstream_error
        selection.on_ejected = self.metrics.ejected

    @property
    def beginners(self) -> tuple[Beginner, ...]:
        return tuple(each.begin for each in (self._access_log, self._tracing) if each is not None)

    @property
    def observers(self) -> tuple[Observer, ...]:
        others = (each.observe for each in (self._access_log, self._tracing) if each is not None)
        return (self.metrics.observe, *others)

    def reopen_logs(self) -> None:
        if self._access_log is not None:
            self._access_log.reopen()

    async def close(self) -> None:
        await self.metrics.close()
        if self._access_log is not None:
            await self._access_log.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.close)

    def _read(self) -> Reading:
        return Reading(
            running=dict(self._selection.in_flight_by_model),
            waiting=self._waiting_room.lengths(),
            connections=self._connections.open,
            redis_connected=self._link.connected,
            snapshot_age=self._snapshot.age,
        )
