"""Money leaking: a rented thing that no live row claims, found by a sweep, and what is being done about it."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from fleet.models.lease import Leased
from fleet.models.rental import Rental


class Leak(Leased):
    """As with instances, `next_attempt_at` says when the next step is due, and the lease who takes it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    rental = models.OneToOneField(Rental, on_delete=models.PROTECT, related_name="leak")
    reason = models.TextField(help_text="Why it is nobody's")
    # What is needed to look for a claim again, and to destroy it with all that hangs on it.
    tag = models.CharField(
        max_length=255, blank=True, help_text="The attempt that its tag names, or that of the machine it hangs on"
    )
    server_id = models.CharField(max_length=255, blank=True, help_text="The machine that it hung on, if it did")
    volume_ids = models.JSONField(default=list, help_text="Of a machine: the volumes that go with it")
    ip_ids = models.JSONField(default=list, help_text="Of a machine: the addresses that go with it")

    found_at = models.DateTimeField()
    done = models.TextField(blank=True, help_text="What was done about it last")
    steps = models.IntegerField(default=0, help_text="Steps taken to destroy it")
    last_error = models.TextField(blank=True)
    approved_by = models.CharField(
        max_length=255, blank=True, help_text="Who said that it may go although a pass found too many at once"
    )
    ended_at = models.DateTimeField(null=True, help_text="When it was gone, or claimed after all; empty: it leaks")

    class Meta:
        db_table = "leaks"
        verbose_name_plural = "money leaking"
        ordering = ["-found_at"]
        indexes = [models.Index(fields=["next_attempt_at"], condition=Q(ended_at=None), name="leaks_due")]
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=False) | Q(next_attempt_at__isnull=False), name="leaks_always_due"
            )
        ]

    def __str__(self) -> str:
        return f"leaking {self.rental}"
