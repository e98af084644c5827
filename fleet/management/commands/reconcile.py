"""Compare what is rented with what the rows say, and make them equal. Needs neither a broker nor beat."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import InterfaceError, OperationalError, close_old_connections

from fleet import commands
from fleet.clocks import tick
from fleet.commands import Actor
from fleet.lifecycle import due, garbage_collection, index, liveness, places
from fleet.lifecycle.rehearsal import rehearse
from fleet.lifecycle.report import Scope, Standing, held_by_the_brake, standing
from fleet.lifecycle.world import World, real_world
from fleet.management.tables import table

log = logging.getLogger(__name__)

_ACTOR = Actor(name="manage.py reconcile --approve")
_HEADER = ("PLACE", "SERVERS", "LEAKING", "ENDED", "FOR AN OPERATOR", "LISTED")


class Command(BaseCommand):
    help = (
        "Compare what every account and zone has with what the rows say: destroy what nobody claims, look after rows "
        "whose machine is missing, and take all steps that are due. Exit code 1 if something leaks or was not listed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        manner = parser.add_mutually_exclusive_group()
        manner.add_argument("--loop", action="store_true", help="until SIGTERM or Ctrl-C: an orchestrator without beat")
        manner.add_argument("--dry-run", action="store_true", help="say what it would do; write and destroy nothing")
        parser.add_argument(
            "--every", type=float, default=settings.WAKE_EVERY, metavar="N", help="seconds between rounds of --loop"
        )
        parser.add_argument("--approve", action="store_true", help="first let go what the brake holds by now")
        parser.add_argument("--provider", action="append", default=[], help="sweep its places only; may be repeated")
        parser.add_argument("--zone", action="append", default=[], help="sweep only places in it; may be repeated")

    def handle(self, *, loop: bool, dry_run: bool, approve: bool, every: float, **options: Any) -> None:
        world, scope = real_world(), Scope(frozenset(options["provider"]), frozenset(options["zone"]))
        if dry_run:
            sys.exit(0 if self._rehearse(world, scope) else 1)
        since = world.now()
        with _stopping() as stop:
            if approve:
                self._approve(world, scope)
            _pass(world, scope, stop)
            while loop and not stop.wait(every):
                _round(world, scope, stop)
        sys.exit(0 if self._tell([standing(place, since=since) for place in scope.places()]) else 1)

    def _rehearse(self, world: World, scope: Scope) -> bool:
        rehearsals = [rehearse(place, world) for place in places.unsaved() if scope.covers(place)]
        self._print((row.place, str(row.servers), str(row.leaking), "", "", row.trouble) for row in rehearsals)
        for intention in (words for row in rehearsals for words in row.intentions):
            self.stdout.write(intention)
        return all(row.is_well for row in rehearsals)

    def _approve(self, world: World, scope: Scope) -> None:
        """Not what this pass will find: nobody has seen that yet."""
        held = [leak for place in scope.places() for leak in held_by_the_brake(place)]
        count = commands.approve_leaks(held, actor=_ACTOR, now=world.now())
        self.stdout.write(f"Approved: {count}.")

    def _tell(self, standings: Sequence[Standing]) -> bool:
        self._print(
            (row.place, str(row.servers), str(row.leaking), str(row.ended), str(row.braked), row.trouble)
            for row in standings
        )
        return all(row.is_well for row in standings)

    def _print(self, rows: Iterable[Sequence[str]]) -> None:
        for line in table([_HEADER, *([*row[:-1], row[-1] or "whole"] for row in rows)]):
            self.stdout.write(line)


def _pass(world: World, scope: Scope, stop: threading.Event) -> None:
    """Every place, whether its time has come or not, and all steps that are due."""
    places.refresh(world.now())
    _take(garbage_collection.sweep_each([place.pk for place in scope.places()], world), stop)
    _take(garbage_collection.take_due_steps(world), stop)


def _round(world: World, scope: Scope, stop: threading.Event) -> None:
    """What is due. While the database is away nothing is known, and nothing can be done: the next round comes."""
    try:
        _take(garbage_collection.sweep_each(_due_in(scope, due.sweeps(world.now())), world), stop)
        _take(garbage_collection.take_due_steps(world), stop)
        _read_heartbeats(world)
    except (OperationalError, InterfaceError) as error:
        log.error("the database is away, the next round follows: %s", error)
        close_old_connections()  # those that are broken: the next round makes new ones


def _take(steps: Iterator[None], stop: threading.Event) -> None:
    for _ in steps:
        if stop.is_set():
            return


def _due_in(scope: Scope, sweep_ids: Sequence[uuid.UUID]) -> Sequence[uuid.UUID]:
    known = {place.pk for place in scope.places()} if sweep_ids else set()
    return [pk for pk in sweep_ids if pk in known]


def _read_heartbeats(world: World) -> None:
    """Beat's other jobs, without which no instance would become ready. Redis away: nobody is judged."""
    with tick("CLOCK:LIVENESS", period_seconds=settings.WAKE_EVERY) as mine:
        if not mine:
            return
        try:
            index.mend(world)
            liveness.read_heartbeats(world)
        except redis.RedisError as error:
            log.warning("heartbeats can't be read: %s", error)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set by SIGTERM or Ctrl-C, for whoever looks between two steps."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
