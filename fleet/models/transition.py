"""Every move of every instance, for ever. Append-only."""

from __future__ import annotations

from functools import reduce
from operator import or_

from django.db import models

from fleet.models.instance import Instance
from fleet.states import EDGES, Status

_KNOWN_EDGE = reduce(
    or_,
    [models.Q(from_status=old, to_status=new) for old, new in sorted(EDGES)],
    models.Q(from_status="", to_status=Status.PROVISIONING),  # how every instance begins
)


class Transition(models.Model):
    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="transitions")
    from_status = models.CharField(max_length=50, choices=Status.choices, blank=True)
    to_status = models.CharField(max_length=50, choices=Status.choices)
    reason = models.TextField()
    actor = models.CharField(max_length=255)
    at = models.DateTimeField()

    class Meta:
        db_table = "transitions"
        ordering = ["id"]
        indexes = [models.Index(fields=["-at"], name="transitions_newest")]
        constraints = [models.CheckConstraint(condition=_KNOWN_EDGE, name="transitions_edge_exists")]

    def __str__(self) -> str:
        return f"{self.from_status or '-'} to {self.to_status}"
