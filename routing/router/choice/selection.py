"""Takes an instance for a request and gives it back: by Redis, or by the snapshot while Redis can't be asked."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from routing.discovery.directory import (
    ANY,
    Admission,
    AllFull,
    Directory,
    IndexLost,
    NoneReady,
    Settlement,
    UnknownModel,
    Wish,
)
from routing.discovery.records import Allowance, ServedModel, Target
from routing.discovery.snapshot import Snapshot
from routing.router.choice.affinity import Rings, bound
from routing.router.choice.balancer import Resting, least_busy
from routing.router.choice.waiting import WaitingRoom

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """An instance, taken for a request of a model; `allowance`: what its key has left, if that has limits."""

    model_id: str
    target: Target
    allowance: Allowance | None


class Selection:
    """`on_failed(kind)` and `on_ejected(model_id)` are told what becomes of instances; both must be quick."""

    def __init__(
        self,
        directory: Directory,
        snapshot: Snapshot,
        *,
        waiting_room: WaitingRoom,
    ) -> None:
        self._directory = directory
        self._snapshot = snapshot
        self._waiting_room = waiting_room
        self.on_failed: Callable[[str], None] = _nobody
        self.on_ejected: Callable[[str], None] = _nobody
        self._rings = Rings()
        self._resting = Resting()
        self._in_flight: dict[str, int] = {}
        self._by_model: dict[str, int] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight_by_model(self) -> Mapping[str, int]:
        return self._by_model

    def wish(
        self, model: ServedModel, affinity: bytes | None, excluded: tuple[str, ...], *, desperate: bool = True
    ) -> Wish:
        """`affinity`: what requests that should go to the same instance have in common; `desperate`: see `Wish`."""
        crowd = self._snapshot.crowd(model.model_id)
        if affinity is None or not crowd.members:
            return ANY if desperate and not excluded else Wish(excluded=excluded, desperate=desperate)
        preferred = self._rings.of(model.model_id, crowd).after(affinity)
        in_flight = self._by_model.get(model.model_id, 0)
        return Wish(
            preferred=preferred, bound=bound(crowd, in_flight=in_flight), excluded=excluded, desperate=desperate
        )

    async def take(self, model_id: str, *, wish: Wish, admission: Admission | None = None) -> Place:
        """Every place is to be given back, once. Raises UnknownModel, NoneReady, AllFull, Refused, IndexLost."""
        try:
            target, allowance = await self._directory.take(model_id, wish=wish, admission=admission)
        except IndexLost:
            if not self._snapshot.usable:
                raise
            target, allowance = self._take_from_snapshot(model_id, wish), None
        self._in_flight[target.instance_id] = self._in_flight.get(target.instance_id, 0) + 1
        self._by_model[model_id] = self._by_model.get(model_id, 0) + 1
        self._idle.clear()
        return Place(model_id, target, allowance)

    def give_back(self, place: Place, settlement: Settlement | None = None) -> None:
        """`settlement`: what the request really took, where that is to be told."""
        _count_down(self._in_flight, place.target.instance_id)
        _count_down(self._by_model, place.model_id)
        if not self._in_flight:
            self._idle.set()
        if settlement is None:
            self._directory.release(place.target)
        else:
            self._directory.release_and_settle(place.target, settlement)
        self._waiting_room.let_one_try(place.model_id)

    def settle(self, settlement: Settlement) -> None:
        """Of a request that has no place any more."""
        self._directory.settle(settlement)

    def failed(self, place: Place, kind: str, *, at_once: bool = False) -> None:
        """Its instance did not answer as it should; `at_once`: so plainly that it is to be spared from now on."""
        self.on_failed(kind)
        if at_once:
            self._resting.add(place.target.instance_id, time.monotonic())
        telling = asyncio.get_running_loop().create_task(self._tell_failure(place, kind, at_once=at_once))
        self._telling.add(telling)
        telling.add_done_callback(self._telling.discard)

    def recovered(self, target: Target) -> None:
        if target.ailing:
            self._directory.recovered(target)

    async def wait_until_idle(self) -> None:
        """Until everything that was taken has been given back."""
        await self._idle.wait()

    async def _tell_failure(self, place: Place, kind: str, *, at_once: bool) -> None:
        try:
            out_for = await self._directory.failed(place.target, at_once=at_once)
        except IndexLost:
            return  # this process spares it by itself
        if out_for:
            log.warning("%s is taken out of routing for %g s: %s", place.target.instance_id, out_for, kind)
            self.on_ejected(place.model_id)

    def _take_from_snapshot(self, model_id: str, wish: Wish) -> Target:
        if model_id not in self._snapshot.models:
            raise UnknownModel(model_id)
        candidates = self._snapshot.crowd(model_id).candidates
        free = [each for each in candidates if not self._is_full(each.target.instance_id, each.capacity)]
        if candidates and not free:
            raise AllFull(model_id)
        resting = self._resting.at(time.monotonic())
        for excluded in ((*wish.excluded, *resting), wish.excluded):
            chosen = least_busy(free, in_flight=self._in_flight, excluded=excluded, draw=random.randrange)
            if chosen is not None:
                return chosen.target
        raise NoneReady(model_id)

    def _is_full(self, instance_id: str, capacity: int) -> bool:
        return 0 < capacity <= self._in_flight.get(instance_id, 0)


def _count_down(counts: dict[str, int], name: str) -> None:
    left = counts.pop(name) - 1
    if left:
        counts[name] = left


def _nobody(what: str) -> None:
    """Nobody wants to know."""
