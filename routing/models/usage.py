"""What was called: a row for each request, kept for a time, and the sums of each hour, kept for good.

Both outlive the keys, models and instances that they name, so that they refer to none of them.
"""

from __future__ import annotations

from django.db import models


class UsageRecord(models.Model):
    """One request that reached an instance: a line of the routers' stream (`routing.discovery.records.Usage`)."""

    usage_id = models.UUIDField(primary_key=True, help_text="Made by the router; a line that comes twice counts once")
    ended_at = models.DateTimeField()
    key_id = models.UUIDField()
    model_id = models.CharField(max_length=255, help_text="The model that answered")
    instance_id = models.UUIDField()
    operation = models.CharField(max_length=40, help_text='"chat", "completions", "embeddings", ...')
    status = models.SmallIntegerField(help_text="HTTP's; 499: the client left before the end")
    streamed = models.BooleanField()
    input_tokens = models.IntegerField()
    output_tokens = models.IntegerField()
    cached_tokens = models.IntegerField(help_text="Of the input: found in the engine's prefix cache")
    estimated = models.BooleanField(help_text="Whether the tokens are the router's estimate: the engine told none")
    first_token_ms = models.IntegerField(null=True, help_text="Until the first byte of the answer; null: none came")
    duration_ms = models.IntegerField()
    cost_micros = models.BigIntegerField(help_text="In millionths of the prices' currency")

    class Meta:
        db_table = "usage_records"
        ordering = ["-ended_at"]
        indexes = [
            models.Index(fields=["ended_at"], name="usage_records_time"),
            models.Index(fields=["key_id", "ended_at"], name="usage_records_key"),
            models.Index(fields=["model_id", "ended_at"], name="usage_records_model"),
        ]

    def __str__(self) -> str:
        return f"usage {str(self.usage_id)[:8]}"


class UsageHour(models.Model):
    """The sums of the requests that ended in an hour with the same key, model, operation and status."""

    hour = models.DateTimeField(help_text="Its beginning (UTC)")
    key_id = models.UUIDField()
    model_id = models.CharField(max_length=255)
    operation = models.CharField(max_length=40)
    status = models.SmallIntegerField()
    requests = models.BigIntegerField()
    estimated = models.BigIntegerField(help_text="Requests of which the tokens are estimated")
    input_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cached_tokens = models.BigIntegerField()
    cost_micros = models.BigIntegerField()
    duration_ms = models.BigIntegerField()
    first_token_ms = models.BigIntegerField(help_text="Of those that had a first byte")
    first_tokens = models.BigIntegerField(help_text="How many had one")

    class Meta:
        db_table = "usage_hours"
        ordering = ["-hour"]
        verbose_name = "hour of usage"
        verbose_name_plural = "usage by hour"
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "key_id", "model_id", "operation", "status"], name="usage_hours_sums_of"
            )
        ]
        indexes = [models.Index(fields=["key_id", "hour"], name="usage_hours_key")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.model_id}"


class RejectedUsage(models.Model):
    """A line of the stream that can't be counted: a fault of a router, kept so that it can be found."""

    entry = models.CharField(max_length=64, help_text="The stream's entry, with the router's clock in it")
    ordinal = models.IntegerField(help_text="Which line of the entry; 0: the entry itself")
    reason = models.TextField()
    line = models.TextField(help_text="Its beginning")
    rejected_at = models.DateTimeField()

    class Meta:
        db_table = "usage_rejects"
        ordering = ["-rejected_at", "-id"]
        verbose_name_plural = "rejected usage"
        constraints = [models.UniqueConstraint(fields=["entry", "ordinal"], name="usage_rejects_once")]

    def __str__(self) -> str:
        return f"{self.entry}, line {self.ordinal}"
