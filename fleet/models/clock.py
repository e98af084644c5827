"""When each of beat's jobs last ran: three missed ticks make the orchestrator unhealthy."""

from __future__ import annotations

from django.db import models


class ClockTick(models.Model):
    name = models.CharField(max_length=50, primary_key=True)
    period_seconds = models.FloatField()
    ticked_at = models.DateTimeField()

    class Meta:
        db_table = "clock_ticks"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
