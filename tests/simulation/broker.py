"""The broker: a Celery application whose messages the schedule delivers, or loses, doubles and delays."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from celery import Celery

from tests.simulation.director import Director

Deliver = Callable[[str, str, timedelta], None]  # command, id, in how long

_SOON = timedelta(milliseconds=50)


class SimulatedBroker(Celery):
    """One for the whole run (an application takes long to make); each schedule plugs itself in."""

    director: Director
    deliver: Deliver

    def __init__(self) -> None:
        super().__init__("simulation", set_as_current=False)

    def plug(self, director: Director, deliver: Deliver) -> None:
        self.director, self.deliver = director, deliver

    def connection_for_write(self, *args: Any, **kwargs: Any) -> Any:
        return nullcontext()

    def send_task(self, name: str, args: Sequence[str] = (), **options: Any) -> None:  # type: ignore[override]
        (target,) = args
        uuid.UUID(target)  # an id and nothing else, least of all a secret
        chances, director = self.director.chances, self.director
        director.at(f"send {name}")
        if director.strikes(chances.lose_message):
            director.tell(f"broker: {name} is lost")
            return
        wait = _SOON
        if director.strikes(chances.late_message):
            wait = timedelta(seconds=director.rng.uniform(1, 3600))
            director.tell(f"broker: {name} comes {wait} late")
        self.deliver(name, target, wait)
        if director.strikes(chances.double_message):
            director.tell(f"broker: {name} comes twice")
            self.deliver(name, target, timedelta(seconds=director.rng.uniform(0, 300)))
        director.at(f"sent {name}", after=True)
