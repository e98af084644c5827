"""What is billed, what of that nobody claims, and when each place was last looked at. To be read only."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import extend_schema_field
from rest_framework import mixins, serializers, viewsets

from fleet import costs
from fleet.api.amounts import AMOUNTS, amounts
from fleet.api.filters import LeakFilters, RentalFilters, SweepFilters
from fleet.models import Leak, Rental, Sweep

_OF_THE_SETTINGS = "Null: that of the settings"


class RentalSerializer(serializers.ModelSerializer[Rental]):
    """A thing that a provider bills."""

    provider = serializers.CharField(source="provider.name")
    zone = serializers.CharField(source="zone.name")
    account = serializers.CharField(source="account.name", default=None, allow_null=True, help_text=_OF_THE_SETTINGS)
    attempt_id = serializers.UUIDField(allow_null=True, help_text="The try that it was made for; null: no row knows")
    instance_id = serializers.UUIDField(source="attempt.instance_id", default=None, allow_null=True)
    cost_so_far = serializers.SerializerMethodField(help_text="By currency; empty where no price is known")

    class Meta:
        model = Rental
        fields = [
            "id",
            "kind",
            "resource_id",
            "provider",
            "zone",
            "account",
            "attempt_id",
            "instance_id",
            "price_per_hour",
            "currency",
            "since",
            "until",
            "cost_so_far",
        ]
        read_only_fields = fields

    @extend_schema_field(AMOUNTS)
    def get_cost_so_far(self, rental: Rental) -> dict[str, str]:
        return amounts(costs.total([rental], now=timezone.now()))


class LeakSerializer(serializers.ModelSerializer[Leak]):
    """A rented thing that nobody claims, and what is done about it."""

    resource = RentalSerializer(source="rental")

    class Meta:
        model = Leak
        fields = [
            "id",
            "resource",
            "reason",
            "found_at",
            "done",
            "steps",
            "last_error",
            "approved_by",
            "next_attempt_at",
            "ended_at",
        ]
        read_only_fields = fields


class SweepSerializer(serializers.ModelSerializer[Sweep]):
    """A place, and what came of looking at it."""

    provider = serializers.CharField(source="zone.region.provider.name")
    region = serializers.CharField(source="zone.region.name")
    zone = serializers.CharField(source="zone.name")
    account = serializers.CharField(source="account.name", default=None, allow_null=True, help_text=_OF_THE_SETTINGS)

    class Meta:
        model = Sweep
        fields = [
            "id",
            "provider",
            "region",
            "zone",
            "account",
            "known_since",
            "swept_at",
            "complete_at",
            "servers",
            "last_error",
            "next_attempt_at",
        ]
        read_only_fields = fields


class RentalViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Rental]):
    """The ledger: everything that was ever billed, from its creation to its confirmed absence."""

    queryset = Rental.objects.select_related("provider", "zone", "account", "attempt")
    serializer_class = RentalSerializer
    filterset_class = RentalFilters
    ordering_fields = ["since", "until", "price_per_hour"]
    lookup_value_converter = "uuid"


class LeakViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Leak]):
    """Money leaking: what is rented, and no live row claims."""

    queryset = Leak.objects.select_related("rental__provider", "rental__zone", "rental__account", "rental__attempt")
    serializer_class = LeakSerializer
    filterset_class = LeakFilters
    ordering_fields = ["found_at", "ended_at"]
    lookup_value_converter = "uuid"


class SweepViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[Sweep]):
    """When each account and zone was last compared with the rows."""

    queryset = Sweep.objects.select_related("zone__region__provider", "account")
    serializer_class = SweepSerializer
    filterset_class = SweepFilters
    ordering_fields = ["swept_at", "complete_at"]
