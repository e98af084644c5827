"""No GPU ever leaks: what is rented and what the rows say are made equal, in both directions, over and over.

    places      where something of ours may be
    sweep       list a place, then read the rows, then compare (inventory: pure; claims: what the rows say)
    findings    what nobody claims, written into the ledger and opened as a leak
    leaks       after a grace, destroyed by steps until the provider says that nothing is left
    brake       so many at once are more likely our own fault

Here is one round of all of it and of whatever else is due, in this process: what `manage.py reconcile` runs. It needs
neither a broker nor a clock beside it, and may run beside both: every row has a lease.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator

from django.db import DatabaseError

from fleet.lifecycle import due, leaks
from fleet.lifecycle.advance import advance
from fleet.lifecycle.sweep import sweep
from fleet.lifecycle.world import World

log = logging.getLogger(__name__)

Step = Callable[[uuid.UUID, World], None]


def sweep_each(sweep_ids: Iterable[uuid.UUID], world: World) -> Iterator[None]:
    """Look at places, due or not. Yields between two, where one may stop."""
    return _each(sweep, sweep_ids, world)


def take_due_steps(world: World) -> Iterator[None]:
    """The steps of instances and leaks that are due. Yields between two, where one may stop."""
    instances = due.instances(world.now())
    yield from _each(advance, (*instances.being_destroyed, *instances.rising), world)
    yield from _each(leaks.collect, due.leaks(world.now()), world)


def _each(step: Step, ids: Iterable[uuid.UUID], world: World) -> Iterator[None]:
    for pk in ids:
        try:
            step(pk, world)
        except DatabaseError:
            raise  # and nothing else can be done either
        except Exception:
            # It is put off, with the error in its row; the others are not to wait for a programmer.
            log.exception("%s of %s failed", step.__name__, pk)
        yield
