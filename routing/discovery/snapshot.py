"""What the router remembers of the index: a picture a second old, in process. Names, policies and the members of the
rings come from it; and all of it for the time when Redis can't be asked.

Redrawing it costs a bounded share of a core however large the fleet is: instances are re-read at a set pace, so in a
large fleet the picture is some seconds old, which is enough for a fallback.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from routing.discovery import keys, scripts
from routing.discovery.link import Link, RedisAway
from routing.discovery.records import Candidate, ServedModel

REDRAW_EVERY = 1.0  # seconds from the end of a round to the next
_PACE = 2000  # instances a second
_WIDTH = 7  # values of an instance in an answer


class Crowd:
    """A model's instances that take requests. `members` (id -> weight) is the same object for as long as it is equal
    to what it was."""

    def __init__(self, candidates: Sequence[Candidate], members: Mapping[str, float]) -> None:
        self.candidates = candidates
        self.members = members
        self.load = sum(each.load for each in candidates)
        self.weight = sum(members.values())


NOBODY = Crowd((), {})


class Snapshot:
    """`max_age`: seconds after which an index that can't be seen whole any more is not served from."""

    def __init__(self, link: Link, *, stale_after: float, max_age: float) -> None:
        self._link = link
        self._stale_after = stale_after
        self._max_age = max_age
        self._whole_at: float | None = None
        self._models: dict[str, ServedModel] = {}
        self._by_name: dict[str, ServedModel] = {}
        self._crowds: dict[str, Crowd] = {}

    @property
    def usable(self) -> bool:
        """Whether the whole index was seen lately. False: nothing can be said, not even that a model is unknown."""
        return self._whole_at is not None and time.monotonic() - self._whole_at <= self._max_age

    @property
    def age(self) -> float:
        """Seconds since the whole index was seen; infinite before that."""
        return float("inf") if self._whole_at is None else time.monotonic() - self._whole_at

    @property
    def models(self) -> Mapping[str, ServedModel]:
        return self._models

    def named(self, name: str) -> ServedModel | None:
        """The model of this id or alias."""
        return self._by_name.get(name)

    def crowd(self, model_id: str) -> Crowd:
        return self._crowds.get(model_id, NOBODY)

    async def redraw(self) -> None:
        """Read the index again. One that is away or not whole leaves the picture as it is."""
        try:
            if not await self._redraw_models():
                return
            for model_id in list(self._models):
                await self._redraw_crowd(model_id)
        except RedisAway:
            return

    async def _redraw_models(self) -> bool:
        state, *models = await self._link.run(scripts.ALL_MODELS, [keys.MODELS, keys.EPOCH])
        if state != "whole":
            return False
        self._whole_at = time.monotonic()
        known = [ServedModel.from_json(raw) for raw in models]
        self._models = {model.model_id: model for model in known}
        # An id goes before another model's alias.
        self._by_name = {alias: model for model in known for alias in model.aliases} | self._models
        self._crowds = {model_id: crowd for model_id, crowd in self._crowds.items() if model_id in self._models}
        return True

    async def _redraw_crowd(self, model_id: str) -> None:
        found: dict[str, Candidate] = {}  # a walk may meet a member twice
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
            for at in range(0, len(page), _WIDTH):
                candidate = Candidate.from_answer(page[at : at + _WIDTH])
                found[candidate.target.instance_id] = candidate
            if cursor == "0":
                break
            await asyncio.sleep(len(page) / _WIDTH / _PACE)
        members: Mapping[str, float] = {each: candidate.weight for each, candidate in found.items()}
        before = self.crowd(model_id).members
        self._crowds[model_id] = Crowd(tuple(found.values()), before if before == members else members)
