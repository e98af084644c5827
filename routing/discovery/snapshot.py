"""What the router remembers of the index for the time when Redis can't be asked: a picture a second old, in process.

Redrawing it costs a bounded share of a core however large the fleet is: instances are re-read at a set pace, so in a
large fleet the picture is some seconds old, which is enough for a fallback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from routing.discovery import keys, scripts
from routing.discovery.link import Link, RedisAway
from routing.discovery.records import ServedModel, Target

REDRAW_EVERY = 1.0  # seconds from the end of a round to the next
_PACE = 2000  # instances a second


class Snapshot:
    """`max_age`: seconds after which an index that can't be seen whole any more is not served from."""

    def __init__(self, link: Link, *, stale_after: float, max_age: float) -> None:
        self._link = link
        self._stale_after = stale_after
        self._max_age = max_age
        self._whole_at: float | None = None
        self._models: dict[str, ServedModel] = {}
        self._targets: dict[str, tuple[Target, ...]] = {}

    @property
    def usable(self) -> bool:
        """Whether the whole index was seen lately. False: nothing can be said, not even that a model is unknown."""
        return self._whole_at is not None and time.monotonic() - self._whole_at <= self._max_age

    @property
    def models(self) -> Mapping[str, ServedModel]:
        return self._models

    def targets(self, model_id: str) -> Sequence[Target]:
        return self._targets.get(model_id, ())

    async def redraw(self) -> None:
        """Read the index again. One that is away or not whole leaves the picture as it is."""
        try:
            if not await self._redraw_models():
                return
            for model_id in list(self._models):
                await self._redraw_targets(model_id)
        except RedisAway:
            return

    async def _redraw_models(self) -> bool:
        state, *models = await self._link.run(scripts.ALL_MODELS, [keys.MODELS, keys.EPOCH])
        if state != "whole":
            return False
        self._whole_at = time.monotonic()
        known = [ServedModel.from_json(raw) for raw in models]
        self._models = {model.model_id: model for model in known}
        self._targets = {model_id: found for model_id, found in self._targets.items() if model_id in self._models}
        return True

    async def _redraw_targets(self, model_id: str) -> None:
        found: dict[str, Target] = {}  # a walk may meet a member twice
        cursor = "0"
        while True:
            state, cursor, page = await self._link.run(
                scripts.SNAPSHOT_PAGE,
                [keys.model_instances(model_id), keys.EPOCH],
                self._stale_after,
                keys.INSTANCE_PREFIX,
                cursor,
            )
            if state != "whole":
                return
            self._whole_at = time.monotonic()
            for at in range(0, len(page), 4):
                target = Target.from_answer(page[at : at + 4], counted=False)
                found[target.instance_id] = target
            if cursor == "0":
                break
            await asyncio.sleep(len(page) / 4 / _PACE)
        self._targets[model_id] = tuple(found.values())
