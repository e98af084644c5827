"""A kind of machine, and where it is to be had at what price."""

from __future__ import annotations

import uuid
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from catalog import currency
from catalog.models.provider import Provider, Zone


class InstanceType(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="instance_types")
    name = models.CharField(max_length=50, help_text="The provider's name, e.g. H100-1-80G")
    gpu_name = models.CharField(max_length=50, verbose_name="GPU", help_text="e.g. H100-SXM")
    gpu_count = models.IntegerField(verbose_name="GPUs", validators=[MinValueValidator(1), MaxValueValidator(1024)])
    vram_per_gpu_gb = models.IntegerField(
        verbose_name="VRAM per GPU (GB)", validators=[MinValueValidator(1)], help_text="As on the vendor's label"
    )
    relative_speed = models.DecimalField(
        max_digits=6,
        decimal_places=2,
        default=Decimal(1),
        db_default=Decimal(1),
        validators=[MinValueValidator(Decimal("0.01")), MaxValueValidator(Decimal(1000))],
        help_text="Beside the other types that serve a model: a machine of twice the speed is given twice the requests",
    )
    is_active = models.BooleanField(default=True, db_default=True, help_text="Whether new machines may be of this type")
    vanished_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when the provider no longer lists it anywhere"
    )
    synced = models.JSONField(default=dict, editable=False, help_text="What the last sync or seed wrote, by column")

    class Meta:
        db_table = "instance_types"
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "name"], name="instance_types_provider_name"),
            models.CheckConstraint(condition=models.Q(gpu_count__gte=1), name="instance_types_has_a_gpu"),
            models.CheckConstraint(condition=models.Q(vram_per_gpu_gb__gte=1), name="instance_types_has_vram"),
            models.CheckConstraint(condition=models.Q(relative_speed__gt=0), name="instance_types_has_a_speed"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def vram_gb(self) -> int:
        return self.gpu_count * self.vram_per_gpu_gb


class Stock(models.TextChoices):
    AVAILABLE = "available", "Available"
    SCARCE = "scarce", "Scarce"
    SHORTAGE = "shortage", "Out of stock"
    UNKNOWN = "unknown", "Unknown"


def validate_currency(value: str) -> None:
    if not currency.is_known(value):
        known = ", ".join(currency.UNITS_PER_REFERENCE)
        raise ValidationError(
            f"“%(value)s” is not among the currencies that offers are compared in: {known}.", params={"value": value}
        )


class InstanceAvailability(models.Model):
    """An offer: an instance type in a zone, at a price, with its stock."""

    pk = models.CompositePrimaryKey("instance_type_id", "zone_id")
    instance_type = models.ForeignKey(InstanceType, on_delete=models.CASCADE, related_name="availabilities")
    zone = models.ForeignKey(Zone, on_delete=models.CASCADE, related_name="availabilities")
    price_per_hour = models.DecimalField(max_digits=12, decimal_places=6, validators=[MinValueValidator(0)])
    currency = models.CharField(max_length=3, validators=[validate_currency], help_text="ISO 4217")
    stock = models.CharField(max_length=20, choices=Stock.choices, default=Stock.UNKNOWN, db_default=Stock.UNKNOWN)
    updated_at = models.DateTimeField(auto_now=True)
    spot_price_per_hour = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Of a machine that the provider may take back; empty: it rents none",
    )
    vanished_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Since when the provider no longer lists it"
    )
    synced = models.JSONField(default=dict, editable=False, help_text="What the last sync or seed wrote, by column")

    # Learned from our own tries: a provider's word about its stock is worth less.
    last_success_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_stockout_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "instance_availability"
        verbose_name_plural = "instance availability"
        constraints = [
            models.CheckConstraint(condition=models.Q(price_per_hour__gte=0), name="instance_availability_price"),
            models.CheckConstraint(condition=models.Q(stock__in=Stock.values), name="instance_availability_stock"),
        ]

    def __str__(self) -> str:
        return f"{self.instance_type} in {self.zone}"

    def clean(self) -> None:
        if self.zone.region.provider_id != self.instance_type.provider_id:
            raise ValidationError({"zone": "This zone is another provider's than the instance type."})
