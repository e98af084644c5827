"""A cloud that rents machines, and where it has them."""

from __future__ import annotations

import uuid

from django.db import models


class Provider(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=50, unique=True, help_text='"scaleway", "aws", "mock"')
    description = models.TextField(null=True, blank=True)

    class Meta:
        db_table = "providers"
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Region(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="regions")
    name = models.CharField(max_length=50, help_text='"fr-par", "us-east-1"')

    class Meta:
        db_table = "regions"
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["provider", "name"], name="regions_provider_name")]

    def __str__(self) -> str:
        return self.name


class Zone(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    region = models.ForeignKey(Region, on_delete=models.PROTECT, related_name="zones")
    name = models.CharField(max_length=50, help_text='"fr-par-1", "us-east-1a"')

    class Meta:
        db_table = "zones"
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["region", "name"], name="zones_region_name")]

    def __str__(self) -> str:
        return self.name
