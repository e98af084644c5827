"""A row that is worked on by one worker at a time, again and again until it is over."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.db.models import Case, F, Q, QuerySet, Value, When


class LeaseLost(Exception):
    """Another worker holds the row now: discard what was learned, and let that worker go on."""


class Leased(models.Model):
    """A fenced lease, and when the next step is due. What is learned under a lease that is lost counts for nothing."""

    next_attempt_at = models.DateTimeField(null=True)
    lock_token = models.UUIDField(null=True)
    lock_expires_at = models.DateTimeField(null=True)

    class Meta:
        abstract = True

    @classmethod
    def due(cls, now: datetime) -> QuerySet[Self]:
        """Rows that want a step taken now and that nobody is working on."""
        return cls._default_manager.filter(_free(now), next_attempt_at__lte=now)

    @classmethod
    def lease(cls, pk: uuid.UUID, *, now: datetime, seconds: float) -> Self | None:
        """Take the row for `seconds`. None: it is gone, or somebody else works on it."""
        token = uuid.uuid4()
        mine = cls._default_manager.filter(_free(now), pk=pk)
        if mine.update(lock_token=token, lock_expires_at=now + timedelta(seconds=seconds)) != 1:
            return None
        return cls._default_manager.filter(pk=pk, lock_token=token).first()

    def write(self, **fields: Any) -> None:
        """Write under the lease. Raises LeaseLost if it is no longer ours."""
        if type(self)._default_manager.filter(pk=self.pk, lock_token=self.lock_token).update(**fields) != 1:
            raise LeaseLost(str(self.pk))
        for name, value in fields.items():
            setattr(self, name, value)

    def release(self, *, due: datetime | None, **fields: Any) -> None:
        """End the lease; the next step is due at `due`. A lease that is lost already needs no releasing.

        Who has set another time meanwhile (an operator's approval) wanted that one.
        """
        as_we_know_it = Q(next_attempt_at=self.next_attempt_at) if self.next_attempt_at else Q(next_attempt_at=None)
        type(self)._default_manager.filter(pk=self.pk, lock_token=self.lock_token).update(
            lock_token=None,
            lock_expires_at=None,
            next_attempt_at=Case(
                When(as_we_know_it, then=Value(due, output_field=models.DateTimeField())),
                default=F("next_attempt_at"),
            ),
            **fields,
        )


def _free(now: datetime) -> Q:
    return Q(lock_expires_at__isnull=True) | Q(lock_expires_at__lte=now)
