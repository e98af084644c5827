"""What renting in a zone needs, and whether the project has it: found out by reading alone."""

from __future__ import annotations

from collections.abc import Callable

from fleet.providers.base import AuthError, Finding, InvalidSpec, Location, ProviderError, Stock, Verdict
from fleet.providers.scaleway import addresses, answers, firewall, images, machine_types, volumes
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.refusals import PermissionDenied


def findings(account: Account, location: Location, *, image: str) -> tuple[Finding, ...]:
    who = _credentials(account)
    if who.verdict is Verdict.MISSING:
        return (who,)  # everything else would only repeat it

    def look(subject: str, ask: Callable[[], str]) -> Finding:
        return _finding(subject, ask, location)

    return (
        who,
        look("permission to read servers", lambda: _servers(account, location)),
        look("permission to read block volumes", lambda: _volumes(account, location)),
        look("permission to read addresses", lambda: _addresses(account, location)),
        look("image", lambda: _image(account, location, image)),
        look("machine types and stock", lambda: _stock(account, location)),
        look("inbound rules", lambda: _firewall(account, location)),
        Finding(
            "permission to create servers, and quota",
            Verdict.UNCLEAR,
            "Scaleway tells them only by refusing a create: InstancesFullAccess and BlockStorageFullAccess are needed, "
            "and a quota of at least one server of the type (console: Organization, Quotas)",
        ),
    )


def _credentials(account: Account) -> Finding:
    subject = "credentials"
    try:
        key = account.iam.ask("GET", f"/iam/v1alpha1/api-keys/{account.access_key}").payload
    except PermissionDenied:
        return Finding(subject, Verdict.UNCLEAR, "accepted, but the key may not read who it belongs to (IAMReadOnly)")
    except AuthError as error:
        detail = f"refused: make an API key in the console and put both its halves into the settings ({error})"
        return Finding(subject, Verdict.MISSING, detail)
    except ProviderError as error:
        return Finding(subject, Verdict.UNCLEAR, str(error))
    owner = answers.text(key.get("application_id")) or answers.text(key.get("user_id")) or "an unnamed owner"
    until = answers.text(key.get("expires_at")) or "it is withdrawn"
    return Finding(subject, Verdict.WORKS, f"the key {account.access_key} of {owner}, good until {until}")


def _finding(subject: str, ask: Callable[[], str], location: Location) -> Finding:
    try:
        return Finding(subject, Verdict.WORKS, ask())
    except PermissionDenied as error:
        return Finding(subject, Verdict.MISSING, f"give the API key's policy this right in the project ({error})")
    except (AuthError, InvalidSpec) as error:
        return Finding(subject, Verdict.MISSING, str(error))
    except ProviderError as error:
        return Finding(subject, Verdict.UNCLEAR, f"could not be read in {location.zone}, try again: {error}")


def _servers(account: Account, location: Location) -> str:
    path = f"/instance/v1/zones/{location.zone}/servers"
    answer = account.instance.ask("GET", path, params={"project": account.project_id, "per_page": 1})
    return f"{answer.total or 0} servers in the project in {location.zone}"


def _volumes(account: Account, location: Location) -> str:
    return f"{len(volumes.of_project(account, location).whole())} block volumes in the project in {location.zone}"


def _addresses(account: Account, location: Location) -> str:
    return f"{len(addresses.of_project(account, location).whole())} flexible addresses in {location.zone}"


def _image(account: Account, location: Location, image: str) -> str:
    found = images.image_id(account, image, instance_type="", location=location)
    return f"{image} is {found} in {location.zone}"


def _stock(account: Account, location: Location) -> str:
    offers = machine_types.offers(account, location)
    at_hand = [offer.instance_type for offer in offers if offer.stock in {Stock.AVAILABLE, Stock.SCARCE}]
    return f"{len(offers)} GPU types in {location.zone}, in stock: {', '.join(at_hand) or 'none at the moment'}"


def _firewall(account: Account, location: Location) -> str:
    groups = firewall.ours(account, location)
    names = ", ".join(answers.text(group.get("name")) for group in groups) or "none yet, made with the first machine"
    return f"security groups of ours: {names}"
