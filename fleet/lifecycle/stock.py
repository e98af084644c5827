"""What our own tries taught about a provider's stock, and for how long an offer that was refused is left alone."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.db.models import QuerySet

from catalog.models import InstanceAvailability
from catalog.placement import Offer
from fleet.models import Attempt, QuotaRefusal

# Stock comes back within minutes (Karpenter keeps a stockout for 3), a quota when somebody has asked for more.
CAPACITY_COOLS = timedelta(minutes=3)
QUOTA_COOLS = timedelta(minutes=15)

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def succeeded(attempt: Attempt, *, now: datetime) -> None:
    _offer_of(attempt).update(last_success_at=now)


def sold_out(attempt: Attempt, *, now: datetime) -> None:
    _offer_of(attempt).update(last_stockout_at=now)


def quota_refused(attempt: Attempt, *, now: datetime) -> None:
    QuotaRefusal.objects.update_or_create(
        account_id=attempt.account_id, instance_type=attempt.instance_type, defaults={"refused_at": now}
    )


@dataclass(frozen=True, slots=True)
class Cooling:
    """Refusals of late, by anybody: (provider, type, zone) and (provider, type, account) with when they are over."""

    sold_out: Mapping[tuple[str, str, str], datetime]
    over_quota: Mapping[tuple[str, str, uuid.UUID | None], datetime]

    def until(self, offer: Offer, account: uuid.UUID | None) -> datetime:
        """When the offer may be asked for again in that account; long ago if nothing speaks against it."""
        return max(
            self.sold_out.get((offer.provider, offer.instance_type, offer.zone), _LONG_AGO),
            self.over_quota.get((offer.provider, offer.instance_type, account), _LONG_AGO),
        )


def cooling(types: Iterable[str], *, now: datetime) -> Cooling:
    """What is cooling among the types of these names. Two queries, however many offers there are."""
    names = sorted(set(types))
    stockouts = InstanceAvailability.objects.filter(
        instance_type__name__in=names, last_stockout_at__gt=now - CAPACITY_COOLS
    ).values_list("instance_type__provider__name", "instance_type__name", "zone__name", "last_stockout_at")
    quotas = QuotaRefusal.objects.filter(instance_type__name__in=names, refused_at__gt=now - QUOTA_COOLS).values_list(
        "instance_type__provider__name", "instance_type__name", "account_id", "refused_at"
    )
    return Cooling(
        sold_out={(provider, kind, zone): at + CAPACITY_COOLS for provider, kind, zone, at in stockouts if at},
        over_quota={(provider, kind, account): at + QUOTA_COOLS for provider, kind, account, at in quotas},
    )


def _offer_of(attempt: Attempt) -> QuerySet[InstanceAvailability]:
    return InstanceAvailability.objects.filter(instance_type=attempt.instance_type, zone=attempt.zone)
