"""The operators' public keys: in the machine's user data, so that any image takes them, and registered at the provider.

Which keys a machine takes is settled when its attempt is opened, and stays so: user data must be the same bytes in
every retry of an attempt, whatever is added to the catalogue, or deleted from it, meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from catalog.models import Provider as CatalogProvider
from catalog.models import SshKey
from fleet import accounts
from fleet.models import Attempt
from fleet.providers.base import (
    AmbiguousOutcome,
    AuthError,
    Provider,
    ProviderError,
    SshKeySpec,
    Throttled,
    Unavailable,
)

log = logging.getLogger(__name__)

# What refuses one key, or does not answer, will do the same with the next: a launch has no time for that.
_NO_USE_TO_GO_ON = (AmbiguousOutcome, AuthError, Throttled, Unavailable)


def of_now(provider: CatalogProvider) -> list[str]:
    """The public keys that a machine of the provider, asked for now, is to take."""
    keys = SshKey.objects.filter(provider=provider).order_by("created_at", "pk")
    return list(dict.fromkeys(keys.values_list("public_key", flat=True)))


def registered(attempt: Attempt, driver: Provider) -> tuple[str, ...]:
    """The provider's ids of the attempt's keys, in the attempt's account.

    Asked anew for each machine, and not taken from `provider_key_id`: an id holds in one account, and somebody may
    have deleted the key there. A key that can't be registered stops no launch: the machine has it from its user data.
    (So a retry may ask for one more than the first try did; a driver whose create must not change finds the machine
    of the first try by its tag.)
    """
    return tuple(dict.fromkeys(_register(attempt, driver)))


def _register(attempt: Attempt, driver: Provider) -> Iterator[str]:
    provider = attempt.instance_type.provider
    at_home = attempt.account_id == accounts.home(provider.name)
    for key in SshKey.objects.filter(provider=provider, public_key__in=attempt.authorized_keys).order_by("created_at"):
        try:
            key_id = driver.ensure_ssh_key(SshKeySpec(name=key.name, public_key=key.public_key))
        except ProviderError as error:
            log.warning("SSH key %s is not registered at %s (%s): %s", key, provider, error.code, error)
            if isinstance(error, _NO_USE_TO_GO_ON):
                return
            continue
        if at_home and key.provider_key_id != key_id:
            SshKey.objects.filter(pk=key.pk).update(provider_key_id=key_id)
        yield key_id
