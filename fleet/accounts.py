"""The accounts at a provider: that of the settings (None), and those that an admin has added."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from django.conf import settings
from django.db import connection

from fleet import sealing
from fleet.models import Attempt, ProviderAccount, Rental
from fleet.models.attempt import MAY_BILL
from fleet.providers.credentials import settings_that_make_an_account
from routing.discovery.sealing import SealBroken

OF_THE_SETTINGS = "settings"  # what people call the account that has no row
_SHOWN = 5  # of the machines that a sentence names


class AccountUnusable(Exception):
    """The account's credentials can't be had. Its text says what to do."""


def usable(provider: str) -> Sequence[uuid.UUID | None]:
    """The accounts that new machines may be rented from, in the order in which they are asked."""
    if provider not in settings.ENABLED_PROVIDERS:
        return []
    rows = ProviderAccount.objects.filter(provider__name=provider, is_active=True).order_by("name")
    first: list[uuid.UUID | None] = [None] if is_in_the_settings(provider) else []
    return [*first, *rows.values_list("pk", flat=True)]


def by_name(provider: str) -> Mapping[str, uuid.UUID | None]:
    """Every account, those too that rent nothing new: machines of theirs may still run."""
    rows = ProviderAccount.objects.filter(provider__name=provider).order_by("name").values_list("name", "pk")
    first: dict[str, uuid.UUID | None] = {OF_THE_SETTINGS: None} if is_in_the_settings(provider) else {}
    return {**first, **dict(rows)}


def is_in_the_settings(provider: str) -> bool:
    return provider in settings.PROVIDER_OPTIONS


def home(provider: str) -> uuid.UUID | None:
    """The account that `ssh_keys.provider_key_id` speaks of: that of the settings, else the oldest."""
    if is_in_the_settings(provider):
        return None
    rows = ProviderAccount.objects.filter(provider__name=provider).order_by("created_at", "pk")
    return rows.values_list("pk", flat=True).first()


def none_usable(provider: str) -> str:
    """What to say, and to do, where nobody may rent."""
    if provider not in settings.ENABLED_PROVIDERS:
        return f"{provider} is not among the ENABLED_PROVIDERS"
    return (
        f"there is no account at {provider} that new machines may be rented from: set "
        f"{settings_that_make_an_account(provider)}, or let an admin add one (Provider accounts)"
    )


def options(provider: str, account_id: uuid.UUID | None) -> dict[str, Any]:
    """What the driver is built with. Raises AccountUnusable, ProviderAccount.DoesNotExist."""
    if account_id is not None:
        return {**settings.PROVIDER_COMMON.get(provider, {}), **credentials(account_id)}
    if not is_in_the_settings(provider):
        raise AccountUnusable(
            f"the settings have no account at {provider} (any more): set {settings_that_make_an_account(provider)}"
        )
    of_the_settings: dict[str, Any] = settings.PROVIDER_OPTIONS[provider]
    return of_the_settings


def credentials(account_id: uuid.UUID) -> dict[str, Any]:
    """Opened. Raises AccountUnusable, ProviderAccount.DoesNotExist."""
    name, sealed = ProviderAccount.objects.values_list("name", "credentials").get(pk=account_id)
    try:
        opened: dict[str, Any] = json.loads(sealing.unseal(sealed))
    except SealBroken as error:
        raise AccountUnusable(
            f"the credentials of the account {name} can't be opened: put the key that sealed them back into "
            "ENCRYPTION_KEYS, or enter them anew"
        ) from error
    return opened


def what_may_bill(account: ProviderAccount) -> Sequence[str]:
    """Why its credentials are still needed, in words; empty if nothing of it can cost money any more."""
    reasons = []
    live = Attempt.objects.filter(account=account, outcome__in=sorted(MAY_BILL))
    instances = [str(instance_id)[:8] for instance_id in live.values_list("instance_id", flat=True)]
    if instances:
        reasons.append(f"terminate first what may run in it: {_some('instance', instances)}")
    billed = Rental.objects.filter(account=account, until=None).exclude(attempt__in=live)
    things = [f"{kind} {resource_id}" for kind, resource_id in billed.values_list("kind", "resource_id")]
    if things:
        reasons.append(f"the provider has not said that they are gone: {_some('', things)}")
    return reasons


def seal(credentials: dict[str, Any]) -> str:
    return sealing.seal(json.dumps(credentials))


def hold(account_id: uuid.UUID | None) -> bool:
    """Keep an account from being removed until the transaction ends. False: it is gone, or takes no new machines.

    FOR KEY SHARE, which Django has no word for: launches do not wait for each other, only for a removal.
    """
    if account_id is None:
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM provider_accounts WHERE id = %s AND is_active FOR KEY SHARE", [account_id])
        return cursor.fetchone() is not None


def _some(singular: str, names: Sequence[str]) -> str:
    """The first few of them: "instance 1a2b, 3c4d and 7 more"."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{singular} {', '.join(names[:_SHOWN])}{more}".strip()
