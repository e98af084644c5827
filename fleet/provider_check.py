"""What it takes to rent from a provider, and whether it is there: found out without renting, told in plain words.

`manage.py check_provider` shows it. What the control plane itself must know comes first, then each account is asked
about each zone.
"""

from __future__ import annotations

import ipaddress
import logging
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

from catalog.models import Zone
from fleet import worker_keys
from fleet.lifecycle.world import World
from fleet.models import Instance
from fleet.providers.base import AuthError, Finding, Location, ProviderError, Verdict
from fleet.providers.credentials import settings_that_make_an_account
from routing.discovery.sealing import SealBroken

log = logging.getLogger(__name__)

OURSELVES = "-"  # in place of an account or a zone, where a finding is about neither
_NEEDS_NO_INTERNET = frozenset({"mock"})  # its machines are on this one


@dataclass(frozen=True, slots=True)
class Checked:
    account: str
    zone: str
    finding: Finding


def known_zones(provider: str) -> Mapping[str, Location]:
    """By their names, as the catalogue has them."""
    zones = Zone.objects.filter(region__provider__name=provider).select_related("region").order_by("name")
    return {zone.name: Location(region=zone.region.name, zone=zone.name) for zone in zones}


def check(
    provider: str,
    world: World,
    *,
    among: Mapping[str, uuid.UUID | None],
    zones: Mapping[str, Location],
) -> Iterator[Checked]:
    """Every finding, as it comes. A provider that does not answer is a finding too: raises nothing of its own."""
    for finding in _of_ourselves(provider):
        yield Checked(OURSELVES, OURSELVES, finding)
    if not among:
        yield Checked(OURSELVES, OURSELVES, _no_account(provider))
    if not zones:
        yield Checked(OURSELVES, OURSELVES, _no_zone(provider))
    for name, account_id in among.items():
        for zone, location in zones.items():
            for finding in _of_account(provider, account_id, location, world):
                yield Checked(name, zone, finding)


# --- what we know ourselves -------------------------------------------------------------------------------------------


def _of_ourselves(provider: str) -> Iterator[Finding]:
    yield _enabled(provider)
    yield _encryption_keys()
    if provider in _NEEDS_NO_INTERNET:
        return
    yield _address("CONTROL_PLANE_URL", settings.CONTROL_PLANE_URL)
    yield _address("ROUTER_URL", settings.ROUTER_URL)
    yield _routers()
    yield _operators()


def _enabled(provider: str) -> Finding:
    if provider in settings.ENABLED_PROVIDERS:
        return Finding("ENABLED_PROVIDERS", Verdict.WORKS, f"has {provider}")
    return Finding("ENABLED_PROVIDERS", Verdict.MISSING, f"nothing new is rented from {provider}: add it there")


def _encryption_keys() -> Finding:
    sealed = Instance.objects.live().exclude(api_key=None).values_list("api_key", flat=True)
    lost = sum(not _opens(str(key)) for key in sealed)
    if not lost:
        return Finding("ENCRYPTION_KEYS", Verdict.WORKS, "open the key of every live engine")
    return Finding(
        "ENCRYPTION_KEYS",
        Verdict.MISSING,
        f"do not open the keys of {lost} of {len(sealed)} live engines: put the key that sealed them back",
    )


def _opens(sealed: str) -> bool:
    try:
        worker_keys.open_engine_key(sealed)
    except SealBroken:
        return False
    return True


def _address(setting: str, url: str) -> Finding:
    host = urlsplit(url).hostname or ""
    if _is_only_here(host):
        return Finding(setting, Verdict.MISSING, f"{url} leads a rented machine to itself: set it to a public address")
    if _is_private(host):
        return Finding(
            setting, Verdict.UNCLEAR, f"{url} is a private address: a rented machine must be in the same network"
        )
    if not url.startswith("https://"):
        return Finding(
            setting, Verdict.WORKS, f"{url} is plain HTTP, which shows keys to whoever listens: prefer https"
        )
    return Finding(setting, Verdict.WORKS, f"{url} (whether it is open from outside can't be seen from here)")


def _is_only_here(host: str) -> bool:
    if host in ("", "localhost") or host.endswith(".localhost"):
        return True
    address = _ip(host)
    return address is not None and (address.is_loopback or address.is_unspecified or address.is_link_local)


def _is_private(host: str) -> bool:
    address = _ip(host)
    return address is not None and address.is_private


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _routers() -> Finding:
    if settings.ROUTER_CIDRS:
        return Finding("ROUTER_CIDRS", Verdict.WORKS, f"engines take calls from {', '.join(settings.ROUTER_CIDRS)}")
    return Finding(
        "ROUTER_CIDRS",
        Verdict.MISSING,
        "not set, so that nobody reaches an engine: name the public addresses that the routers call from",
    )


def _operators() -> Finding:
    if settings.SSH_CIDRS:
        return Finding("SSH_CIDRS", Verdict.WORKS, f"SSH takes logins from {', '.join(settings.SSH_CIDRS)}")
    return Finding("SSH_CIDRS", Verdict.WORKS, "not set: nobody logs in to the machines, and nothing needs it")


def _no_account(provider: str) -> Finding:
    needed = settings_that_make_an_account(provider)
    return Finding("account", Verdict.MISSING, f"none: set {needed}, or add one in the admin (Provider accounts)")


def _no_zone(provider: str) -> Finding:
    return Finding("zones", Verdict.MISSING, f"the catalogue has none of {provider}: run manage.py seed_catalog")


# --- what an account can do -------------------------------------------------------------------------------------------


def _of_account(provider: str, account_id: uuid.UUID | None, location: Location, world: World) -> Iterator[Finding]:
    try:
        yield from world.provider(provider, account_id).check(location)
    except AuthError as error:
        yield Finding("credentials", Verdict.MISSING, str(error))
    except ProviderError as error:
        yield Finding("the provider's API", Verdict.UNCLEAR, f"{error.code}: {error}")
    except Exception as error:
        # An answer that the driver can't read. Its text may hold anything, a credential too: it goes to the debug log.
        log.debug("the check of %s in %s failed", provider, location.zone, exc_info=True)
        name = type(error).__name__
        yield Finding("the driver", Verdict.UNCLEAR, f"failed with {name}: LOG_LEVEL=DEBUG shows where")
