"""What happens at a point: nothing, a pause, a death or a failure; by a script, or by chance."""

from __future__ import annotations

import enum
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from tests.simulation.actors import Killed, Task, current


class Act(enum.StrEnum):
    KILL = "kill"
    SHORT_PAUSE = "pause within the lease"
    PAUSE = "pause past the lease"
    LONG_PAUSE = "pause for two hours"


PAUSES = {
    Act.SHORT_PAUSE: timedelta(seconds=60),
    Act.PAUSE: timedelta(seconds=100),
    Act.LONG_PAUSE: timedelta(hours=2),
}


@dataclass(frozen=True, slots=True)
class Cue:
    """The nth point that tasks of a kind come to, counted over the whole schedule from 0."""

    kind: str
    nth: int


@dataclass(frozen=True, slots=True)
class Named:
    """The nth point of that name that tasks of a kind come to, counted from 0."""

    kind: str
    point: str
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Chances:
    """How often, per point, call, message. All zero: nothing ever happens."""

    kill: float = 0.0
    pause: float = 0.0
    long_pause: float = 0.0  # of the pauses
    lose_answer: float = 0.0
    lose_request: float = 0.0
    throttle: float = 0.0
    unavailable: float = 0.0
    quota: float = 0.0
    sold_out: float = 0.0
    sold_out_at_start: float = 0.0
    stuck_delete: float = 0.0
    late_listing: float = 0.0  # a new server is missing from listings for up to a minute
    late_get: float = 0.0  # a new server is "not found" for some seconds
    partial_listing: float = 0.0
    lose_message: float = 0.0
    double_message: float = 0.0
    late_message: float = 0.0
    database_error: float = 0.0
    ambiguous_commit: float = 0.0
    redis_error: float = 0.0


CALM = Chances()


@dataclass
class Director:
    rng: random.Random
    chances: Chances = CALM
    script: Mapping[Cue | Named, Act] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)  # points so far, by the kind of task
    met: Counter[tuple[str, str]] = field(default_factory=Counter)  # points so far, by kind and name
    paused: set[str] = field(default_factory=set)  # kinds of tasks
    names: dict[Cue, str] = field(default_factory=dict)
    pause_until: timedelta | None = None  # what the schedule reads when an actor comes back paused

    def at(self, point: str, *, may_pause: bool = True, after: bool = False) -> None:
        """An actor has come to a point. Returns when it may go on; raises Killed.

        `after`: the effect is there. Nothing of ours happens before the next point, so to be held up at that one is
        the same: where every point is tried, this one need not be.
        """
        actor = current()
        if actor is None or actor.task is None:
            return
        task = actor.task
        if task.dead:
            raise Killed  # the finally blocks of a dead process do nothing
        cue = Cue(task.kind, self.seen[task.kind])
        self.seen[task.kind] += 1
        if not after:
            self.names[cue] = point
        named = Named(task.kind, point, self.met[task.kind, point])
        self.met[task.kind, point] += 1
        act = self._act(cue, named, may_pause=may_pause)
        if act is None:
            return
        self.tell(f"{task.name}: {act} at {point}")
        if act is Act.KILL:
            task.dead = True
            raise Killed
        task.paused = True
        self.paused.add(task.kind)
        self.pause_until = PAUSES[act]
        actor.pause()
        self.tell(f"{task.name}: goes on")

    def strikes(self, chance: float) -> bool:
        return chance > 0 and self.rng.random() < chance

    def tell(self, line: str) -> None:
        self.told.append(line)

    def _act(self, cue: Cue, named: Named, *, may_pause: bool) -> Act | None:
        scripted = self.script.get(cue) or self.script.get(named)
        if scripted is not None:
            return scripted if may_pause or scripted is Act.KILL else None
        if self.strikes(self.chances.kill):
            return Act.KILL
        if may_pause and self.strikes(self.chances.pause):
            return Act.LONG_PAUSE if self.strikes(self.chances.long_pause) else Act.PAUSE
        return None


def task_of_this_thread() -> Task | None:
    actor = current()
    return None if actor is None else actor.task


def is_dead() -> bool:
    """Whether the process that this thread plays was killed."""
    task = task_of_this_thread()
    return task is not None and task.dead
