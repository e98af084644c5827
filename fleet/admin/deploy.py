"""The form with which a model is deployed: first as a dry run, then in earnest."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator

from catalog import currency, fit
from catalog.models import LlmModel, Provider, Zone
from catalog.placement import Limits
from fleet.orders import MAX_REPLICAS, CommandRefused, DeploymentOrder, IdempotencyConflict


class DeployForm(forms.Form):
    model = forms.ModelChoiceField(
        LlmModel.objects.filter(is_active=True), help_text="Any active model of the catalogue."
    )
    replicas = forms.IntegerField(
        initial=1,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_REPLICAS)],
        help_text="So many instances, each with the model on it.",
    )
    context_length = forms.IntegerField(
        required=False,
        min_value=1,
        help_text=f"Tokens that one sequence may have. Empty: {fit.DEFAULT_CONTEXT_LENGTH}, or what the model has.",
    )
    concurrency = forms.IntegerField(
        required=False,
        min_value=1,
        help_text=f"Sequences of that length at once. Empty: {fit.DEFAULT_CONCURRENCY}.",
    )
    providers = forms.MultipleChoiceField(
        required=False, widget=forms.CheckboxSelectMultiple, help_text="None ticked: any."
    )
    zones = forms.MultipleChoiceField(
        required=False, widget=forms.SelectMultiple(attrs={"size": 8}), help_text="None chosen: any."
    )
    max_price_per_hour = forms.DecimalField(
        label="Highest price per hour", required=False, min_value=0, max_digits=12, decimal_places=6
    )
    currency = forms.ChoiceField(
        choices=[(code, code) for code in currency.UNITS_PER_REFERENCE],
        initial=currency.REFERENCE,
        help_text="Of the highest price. Offers in other currencies are converted.",
    )
    spot = forms.BooleanField(
        label="Spot machines",
        required=False,
        help_text="Only machines that the provider may take back at any moment, at their lower price.",
    )
    # A second post of the same page, by a double click or a reload, carries the same key and rents nothing twice.
    idempotency_key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    fieldsets = (
        (None, {"fields": ("model", "replicas", "context_length", "concurrency", "idempotency_key")}),
        ("Limits", {"fields": ("providers", "zones", "max_price_per_hour", "currency", "spot")}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["providers"].choices = _providers()  # type: ignore[attr-defined]
        self.fields["zones"].choices = _zones_by_region()  # type: ignore[attr-defined]

    def order(self) -> DeploymentOrder:
        data = self.cleaned_data
        return DeploymentOrder(
            model_id=data["model"].model_id,
            replicas=data["replicas"],
            context_length=data["context_length"],
            concurrency=data["concurrency"],
            limits=Limits(
                providers=tuple(data["providers"]),
                zones=tuple(data["zones"]),
                max_price_per_hour=data["max_price_per_hour"],
                currency=data["currency"],
                spot=data["spot"],
            ),
        )

    def refuse(self, refusal: CommandRefused) -> None:
        """Show a refusal at the field that it names, or above the form."""
        if isinstance(refusal, IdempotencyConflict):
            self.data = self.data.copy()  # type: ignore[attr-defined]
            self.data["idempotency_key"] = str(uuid.uuid4())  # type: ignore[index]
            self.add_error(None, "This page was sent before, with another order. Deploy again to send this one too.")
            return
        name = refusal.field.removeprefix("limits.")
        self.add_error(name if name in self.fields else None, forms.ValidationError(refusal.message, refusal.code))


def _providers() -> list[tuple[str, str]]:
    names = Provider.objects.values_list("name", flat=True)
    return [(name, name if name in settings.ENABLED_PROVIDERS else f"{name} (not enabled)") for name in names]


def _zones_by_region() -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    zones = Zone.objects.select_related("region__provider").order_by("region__provider__name", "region__name", "name")
    for zone in zones:
        groups.setdefault(f"{zone.region.provider} {zone.region}", []).append((zone.name, zone.name))
    return list(groups.items())
