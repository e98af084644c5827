"""The accounts at a provider: that of the settings (None), and those that an admin has added."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from fleet import sealing
from fleet.models import ProviderAccount


def usable(provider: str) -> Sequence[uuid.UUID | None]:
    """The accounts that new machines may be rented from, in the order in which they are asked."""
    rows = ProviderAccount.objects.filter(provider__name=provider, is_active=True).order_by("name")
    first: list[uuid.UUID | None] = [None] if provider in settings.PROVIDER_OPTIONS else []
    return [*first, *rows.values_list("pk", flat=True)]


def options(provider: str, account_id: uuid.UUID | None) -> dict[str, Any]:
    """What the driver is built with. Raises ProviderAccount.DoesNotExist, SealBroken."""
    common: dict[str, Any] = settings.PROVIDER_OPTIONS.get(provider, {})
    if account_id is None:
        return common
    sealed = ProviderAccount.objects.values_list("credentials", flat=True).get(pk=account_id)
    return {**common, **json.loads(sealing.unseal(sealed))}
