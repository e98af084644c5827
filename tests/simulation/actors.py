"""Actors: threads that run our code one at a time, and stop where the director wants them to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Job = Callable[[], None]


class Killed(BaseException):
    """SIGKILL: nothing of the job's goes on. No `except Exception` of ours can stop it."""


@dataclass
class Task:
    """One run of a job, as the story tells it."""

    kind: str  # provision, terminate, reconcile, liveness, wake, api ...
    name: str
    job: Job
    points: int = 0
    paused: bool = False  # was paused at least once: what it asked for before may come late
    dead: bool = False


class Actor:
    """A thread that has the baton only while `go_on` runs. It keeps its database connection between tasks."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: Task | None = None
        self.error: BaseException | None = None
        self._baton, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._live, name=f"actor-{number}", daemon=True)
        self._thread.start()

    def begin(self, task: Task) -> None:
        """Run the task up to its first pause or its end."""
        self.task, self.error = task, None
        self.go_on()

    def go_on(self) -> None:
        self._baton.release()
        self._back.acquire()

    def pause(self) -> None:
        """Called by the actor itself: give the baton back until `go_on`."""
        self._back.release()
        self._baton.acquire()

    def _live(self) -> None:
        _here.actor = self
        while True:
            self._baton.acquire()
            assert self.task is not None
            try:
                self.task.job()
            except Killed:
                close_connection()
            except BaseException as error:  # the schedule judges it
                self.error = error
                close_connection()
            self.task = None
            self._back.release()


@dataclass
class _Here(threading.local):
    actor: Actor | None = None


_here = _Here()


def current() -> Actor | None:
    """The actor whose thread this is; None outside of the play."""
    return _here.actor


def close_connection() -> None:
    """With a process dies its connection: what it had not committed is undone, its locks are free."""
    from django.db import connection

    connection.close()


@dataclass
class Troupe:
    """The actors there are; they are kept between schedules, as starting a thread and its connection takes longer."""

    actors: list[Actor] = field(default_factory=list)

    def free(self, *, most: int) -> Actor | None:
        """An actor without a task; None if `most` of them are at work or paused."""
        for actor in self.actors[:most]:
            if actor.task is None:
                return actor
        if len(self.actors) < most:
            self.actors.append(Actor(len(self.actors) + 1))
            return self.actors[-1]
        return None

    def rest(self) -> None:
        """Let go of the database. Whoever is still paused is killed: the next schedule has the troupe to itself."""
        self.send_home()
        for actor in self.actors:
            actor.begin(Task("rest", "rest", close_connection))

    def send_home(self) -> None:
        for actor in self.actors:
            while actor.task is not None:
                actor.task.dead = True
                actor.go_on()
