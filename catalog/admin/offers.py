"""Offers (`InstanceAvailability`) on the pages of the instance type and of the zone.

Their key is composite, which Django's admin can neither register nor inline. So the page's own form carries one small
form for every place where an offer can be: on the type's page every zone of its provider, on the zone's page every
type. A price makes the offer, an empty price withdraws it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from catalog import currency
from catalog.admin import columns
from catalog.admin.base import CatalogAdmin, ModelForm
from catalog.models import InstanceAvailability, InstanceType, Zone

_PRICE = "price_per_hour"


class OfferForm(ModelForm):
    """One offer, there or not there yet."""

    currency = forms.ChoiceField(choices=[(code, code) for code in currency.UNITS_PER_REFERENCE])

    class Meta:
        model = InstanceAvailability
        fields = (_PRICE, "currency", "spot_price_per_hour", "stock")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[_PRICE].required = False
        # A row is narrow, and a screen reader needs to know which place it is about.
        for name, field in self.fields.items():
            field.widget.attrs["aria-label"] = f"{name.replace('_', ' ')}: {self.instance}"
            # A sync may write while the page is open: what was not touched on the page is not changed by it.
            field.show_hidden_initial = True
        self.exists = not self.instance._state.adding

    def clean(self) -> dict[str, Any]:
        # Not the parent's: it would ask the database about the constraints that the fields check already.
        return self.cleaned_data

    @property
    def tries(self) -> str:
        return columns.learned(self.instance.last_success_at, self.instance.last_stockout_at)

    @property
    def source(self) -> str:
        vanished = self.instance.vanished_at
        gone = f"; not listed since {columns.instant(vanished)}" if vanished is not None else ""
        return columns.source(self.instance) + gone

    @property
    def change(self) -> str | None:
        """added, changed or deleted: what saving will do. None: nothing."""
        if not self.is_bound or not self.has_changed():
            return None
        if self.cleaned_data[_PRICE] is None:
            return "deleted" if self.exists else None
        return "changed" if self.exists else "added"

    def changes(self) -> dict[str, list[str]]:
        return {"fields": self.changed_data} if self.change == "changed" else {}

    def apply(self) -> None:
        match self.change:
            case "added":
                self.instance.save()
            case "changed":
                self.instance.save(update_fields=[*self.changed_data, "updated_at"])
            case "deleted":
                InstanceAvailability.objects.filter(pk=self.instance.pk).delete()


class OffersPageForm(ModelForm):
    """A page's form with its offers. A row that was not posted (a zone that is newer than the page) is left alone."""

    offers: list[OfferForm]
    are_of_a_zone = False  # which of the two pages: what all its offers share is not said in each row

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offers = [] if self.instance._state.adding else [self._bind(offer) for offer in self.possible_offers()]

    def possible_offers(self) -> list[InstanceAvailability]:
        """Every offer that is there, and an unsaved one for every place where there is none."""
        raise NotImplementedError

    def clean(self) -> dict[str, Any]:
        super().clean()
        faulty = [offer for offer in self.offers if offer.is_bound and not offer.is_valid()]
        if faulty:
            raise ValidationError("Look at the offers below.")
        return self.cleaned_data

    def _bind(self, offer: InstanceAvailability) -> OfferForm:
        prefix = f"offer-{offer.instance_type_id}-{offer.zone_id}"
        posted = self.is_bound and f"{prefix}-{_PRICE}" in self.data
        return OfferForm(self.data if posted else None, instance=offer, prefix=prefix)


class OffersOfType(OffersPageForm):
    def possible_offers(self) -> list[InstanceAvailability]:
        instance_type: InstanceType = self.instance
        zones = Zone.objects.filter(region__provider=instance_type.provider_id).select_related("region")
        known = {offer.zone_id: offer for offer in instance_type.availabilities.all()}
        return _complete(known, [(zone.pk, instance_type, zone) for zone in zones])


class OffersOfZone(OffersPageForm):
    are_of_a_zone = True

    def possible_offers(self) -> list[InstanceAvailability]:
        zone: Zone = self.instance
        types = InstanceType.objects.filter(provider=zone.region.provider_id)
        known = {offer.instance_type_id: offer for offer in zone.availabilities.all()}
        return _complete(known, [(instance_type.pk, instance_type, zone) for instance_type in types])


class OffersAdmin(CatalogAdmin):
    """A page whose form is one of the above."""

    change_form_template = "admin/catalog/offers_change_form.html"

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        for offer in form.offers:
            offer.apply()

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[dict[str, Any]]:
        message: list[dict[str, Any]] = super().construct_change_message(request, form, formsets, add)
        for offer in form.offers:
            if offer.change is not None:
                message.append({offer.change: {"name": "offer", "object": str(offer.instance), **offer.changes()}})
        return message


def _complete(
    known: dict[Any, InstanceAvailability], places: Iterable[tuple[Any, InstanceType, Zone]]
) -> list[InstanceAvailability]:
    code = _usual_currency(known.values())
    offers = []
    for key, instance_type, zone in places:
        offer = known.get(key) or InstanceAvailability(currency=code)
        # The rows at hand, so that no offer asks the database for them again.
        offer.instance_type, offer.zone = instance_type, zone
        offers.append(offer)
    return offers


def _usual_currency(offers: Iterable[InstanceAvailability]) -> str:
    counts = Counter(offer.currency for offer in offers)
    return counts.most_common(1)[0][0] if counts else currency.REFERENCE
