"""Takes an instance for a request and gives it back: by Redis, or by the snapshot while Redis can't be asked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

from routing.discovery.directory import Directory, IndexLost, NoneReady, UnknownModel
from routing.discovery.records import Target
from routing.discovery.snapshot import Snapshot
from routing.router.balancer import Resting, least_busy


class Selection:
    def __init__(self, directory: Directory, snapshot: Snapshot) -> None:
        self._directory = directory
        self._snapshot = snapshot
        self._resting = Resting()
        self._in_flight: dict[str, int] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    async def take(self, model_id: str, *, excluded: Sequence[str] = ()) -> Target:
        """Every target taken is to be given back, once. Raises UnknownModel, NoneReady, IndexLost."""
        resting = self._resting.at(time.monotonic())
        try:
            target = await self._pick(model_id, (*excluded, *resting))
        except NoneReady:
            if not resting:
                raise
            # Better one that refused a moment ago than none at all.
            target = await self._pick(model_id, tuple(excluded))
        self._in_flight[target.instance_id] = self._in_flight.get(target.instance_id, 0) + 1
        self._idle.clear()
        return target

    def give_back(self, target: Target) -> None:
        left = self._in_flight.pop(target.instance_id) - 1
        if left:
            self._in_flight[target.instance_id] = left
        if not self._in_flight:
            self._idle.set()
        self._directory.release(target)

    def let_rest(self, target: Target) -> bool:
        """It refused a connection: spare it for some seconds. Returns whether that is news."""
        return self._resting.add(target.instance_id, time.monotonic())

    async def wait_until_idle(self) -> None:
        """Until everything that was taken has been given back."""
        await self._idle.wait()

    async def _pick(self, model_id: str, excluded: Sequence[str]) -> Target:
        try:
            return await self._directory.pick(model_id, excluded=excluded)
        except IndexLost:
            if not self._snapshot.usable:
                raise
        return self._pick_from_snapshot(model_id, excluded)

    def _pick_from_snapshot(self, model_id: str, excluded: Sequence[str]) -> Target:
        if model_id not in self._snapshot.models:
            raise UnknownModel(model_id)
        target = least_busy(
            self._snapshot.targets(model_id),
            in_flight=self._in_flight,
            excluded=excluded,
            draw=random.randrange,
        )
        if target is None:
            raise NoneReady(model_id)
        return target
