"""Tells the control plane that a router lives and since when: without one, silence proves nothing about a worker."""

from __future__ import annotations

import contextlib
import secrets
from datetime import UTC, datetime

from routing.discovery import keys
from routing.discovery.link import Link, RedisAway

ANNOUNCE_EVERY = keys.ROUTER_TTL / 5  # seconds


class Presence:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.router_id = secrets.token_hex(8)
        self._started = datetime.now(UTC).isoformat()

    async def announce(self) -> None:
        with contextlib.suppress(RedisAway):
            await self._link.command("SADD", keys.ROUTERS, self.router_id)
            await self._link.command("SET", keys.router(self.router_id), self._started, "EX", keys.ROUTER_TTL)

    async def withdraw(self) -> None:
        with contextlib.suppress(RedisAway):
            await self._link.command("SREM", keys.ROUTERS, self.router_id)
            await self._link.command("DEL", keys.router(self.router_id))
