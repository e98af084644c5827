"""Accounts beside the one of the settings, for tests."""

from __future__ import annotations

import json

from cryptography.fernet import Fernet

from catalog.models import Provider
from fleet import accounts
from fleet.models import ProviderAccount
from routing.discovery.sealing import Sealer

# What nobody may ever be shown.
CANARY = "ca9a5ec4-e75c-4a9a-8e7e-ca9a5ec4e7ca"
SCALEWAY = {
    "access_key": "SCWXXXXXXXXXXXXXXXXX",
    "secret_key": CANARY,
    "project_id": "11111111-2222-4333-8444-555555555555",
}


def account(name: str = "research", *, provider: str = "mock", is_active: bool = True) -> ProviderAccount:
    return ProviderAccount.objects.create(
        provider=Provider.objects.get_or_create(name=provider)[0],
        name=name,
        is_active=is_active,
        credentials=accounts.seal(SCALEWAY if provider == "scaleway" else {}),
    )


def seal_with_a_lost_key(row: ProviderAccount) -> None:
    lost = Sealer([Fernet.generate_key().decode()])
    ProviderAccount.objects.filter(pk=row.pk).update(credentials=lost.seal(json.dumps(SCALEWAY)))
