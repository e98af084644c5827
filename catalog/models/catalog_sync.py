"""When the catalogue was last compared with what a provider lists, and what came of it."""

from __future__ import annotations

import uuid

from django.db import models

from catalog.models.provider import Provider, Zone


class CatalogSync(models.Model):
    """A row for each zone, and one without a zone for the provider's list of zones, with which a sync begins."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="catalog_syncs")
    zone = models.ForeignKey(Zone, on_delete=models.CASCADE, related_name="catalog_syncs", null=True)
    requested_at = models.DateTimeField(null=True, help_text="When somebody last asked for it")
    requested_by = models.CharField(max_length=255, blank=True)
    tried_at = models.DateTimeField(null=True, help_text="When the provider was last asked")
    succeeded_at = models.DateTimeField(null=True, help_text="When it last answered; what follows is of then")
    error = models.TextField(blank=True, help_text="Why the last try failed; empty: it did not")
    listed = models.IntegerField(default=0, help_text="What the provider listed: zones, or GPU types of the zone")
    created = models.IntegerField(default=0)
    updated = models.IntegerField(default=0)
    kept = models.IntegerField(default=0, help_text="Edited by hand, and so kept against the provider's word")
    vanished = models.IntegerField(default=0, help_text="No longer listed since this sync")
    skipped = models.TextField(blank=True, help_text="What was listed and could not be taken over, a line each")

    class Meta:
        db_table = "catalog_syncs"
        ordering = ["provider", "zone"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "zone"], nulls_distinct=False, name="catalog_syncs_provider_zone"
            )
        ]

    def __str__(self) -> str:
        return f"sync of {self.zone or f'the zones of {self.provider}'}"
