"""Take one step of an instance's life under a fenced lease."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings

from fleet.lifecycle import boot, launch, termination
from fleet.lifecycle.world import World
from fleet.models import Instance, LeaseLost
from fleet.providers.base import ProviderError, Throttled
from fleet.states import BEING_DESTROYED, Status, deadline

log = logging.getLogger(__name__)

# A step returns when the next one is due; None: nothing more until an intent or a clock says so.
Step = Callable[[Instance, World], datetime | None]

STEPS: dict[Status, Step] = {
    Status.PROVISIONING: launch.step,
    Status.BOOTING: boot.step,
    Status.READY: boot.check_ready,
    Status.DRAINING: termination.step,
    Status.FAILED: termination.step,
}

_BACKOFF = timedelta(seconds=2)
_LONGEST_BACKOFF = timedelta(minutes=1)
_THROTTLED_BACKOFF = timedelta(seconds=10)  # where a provider does not say more than "too many"


_STEPS_AT_ONCE = 20


def advance(instance_id: uuid.UUID, world: World) -> None:
    """Take the steps that are due now, each under a lease of its own."""
    for _ in range(_STEPS_AT_ONCE):
        due = take_step(instance_id, world)
        if due is None or due > world.now():
            return


def take_step(instance_id: uuid.UUID, world: World) -> datetime | None:
    """One step; returns when the next is due, None if nothing is known of that.

    Nothing happens if the instance is over or somebody else works on it: losing that race is normal. A provider's
    error makes the next step come later, for ever: nothing gives up on a machine that may bill.
    """
    instance = Instance.lease(instance_id, now=world.now(), seconds=settings.LEASE_SECONDS)
    if instance is None:
        return None
    try:
        due = STEPS[Status(instance.status)](instance, world)
    except LeaseLost:
        log.info("%s: lease lost, what was learned is discarded", instance)
        return None
    except Throttled as error:
        _slow_down(instance, world, error)
        return None
    except ProviderError as error:
        _put_off(instance, world, f"{error.code}: {error}")
        return None
    except Exception as error:
        _put_off(instance, world, f"{type(error).__name__}: {error}")
        raise
    instance.release(due=due, failures=0, last_error="")
    return due


def _put_off(instance: Instance, world: World, error: str) -> None:
    now = world.now()
    failures = instance.failures + 1
    wait = _spread(min(_BACKOFF * 2 ** min(failures - 1, 10), _LONGEST_BACKOFF), world)
    log.warning("%s (%s): step failed, again in %s: %s", instance, instance.status, wait, error)
    _alarm_if_overdue(instance, now, error)
    instance.release(due=now + wait, failures=failures, last_error=error[:2000])


def _slow_down(instance: Instance, world: World, error: Throttled) -> None:
    """Nothing failed: it is not its turn yet. The bucket makes all callers slower, so that this one need not be
    slower each time."""
    now = world.now()
    # Never sooner than it says, and not all at the same moment.
    wait = (error.retry_after or _THROTTLED_BACKOFF) * (1 + world.chance() / 2)
    log.info("%s (%s): again in %s: %s", instance, instance.status, wait, error)
    _alarm_if_overdue(instance, now, f"{error.code}: {error}")
    instance.release(due=now + wait, last_error=f"{error.code}: {error}"[:2000])


def _spread(wait: timedelta, world: World) -> timedelta:
    """Chance takes up to half of it away: those that failed together don't come back together."""
    return wait * (1 - world.chance() / 2)


def _alarm_if_overdue(instance: Instance, now: datetime, error: str) -> None:
    limit = deadline(Status(instance.status))
    if instance.status in BEING_DESTROYED and limit and now > instance.status_changed_at + limit:
        log.error("ALARM %s: its machine may still bill and can't be destroyed: %s", instance, error)
