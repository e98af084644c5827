"""The security group of an installation's machines: everything inbound is dropped but what the specs ask for.

One group per zone and owner, found by name and tag. Two callers who make it at once make two (it is free), and both use
the eldest. Machines of one installation share it, so they are expected to ask for the same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from fleet.providers.base import TAG_OWNER, Ingress, InvalidSpec, Location, ServerSpec
from fleet.providers.scaleway import listing
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import tags, text
from fleet.providers.scaleway.exchange import Json

_OPEN_TO_THE_WORLD = frozenset({22})  # ssh asks for a key; an engine's port asks for nothing
_POLICY = {
    "stateful": True,
    "inbound_default_policy": "drop",
    "outbound_default_policy": "accept",
}
Rule = tuple[str, int]  # a network, a port: TCP from there to that is let in


def check(ingress: Iterable[Ingress]) -> None:
    """Raises InvalidSpec for what must not be let in."""
    for wanted in ingress:
        network = _network(wanted.cidr)
        if network is None or not 0 < wanted.port < 2**16:
            raise InvalidSpec(f"{wanted.cidr!r} to port {wanted.port} is no network and port that could be let in")
        if network.prefixlen == 0 and wanted.port not in _OPEN_TO_THE_WORLD:
            raise InvalidSpec(f"port {wanted.port} must not be open to the world ({wanted.cidr})")


def ensure_group(account: Account, spec: ServerSpec) -> str:
    """The id of the group that lets in what the spec asks for, and nothing else."""
    check(spec.ingress)
    group = _find(account, spec) or _make(account, spec)
    path = f"{_path(spec.location)}/{text(group.get('id'))}"
    if any(group.get(name) != value for name, value in _POLICY.items()):
        account.instance.ask("PATCH", path, body=_POLICY)
    wanted = {_rule(entry.cidr, entry.port) for entry in spec.ingress}
    if _present(account, path) != wanted:
        account.instance.ask("PUT", f"{path}/rules", body={"rules": _as_rules(wanted)})
    return text(group.get("id"))


def ours(account: Account, location: Location) -> list[Json]:
    """The groups of every installation in the project."""
    groups = listing.take(
        account.instance,
        _path(location),
        key="security_groups",
        size="per_page",
        params={"project": account.project_id},
    ).whole()
    return [group for group in groups.values() if TAG_OWNER in tags(group)]


def _find(account: Account, spec: ServerSpec) -> Json | None:
    found = [
        group
        for group in ours(account, spec.location)
        if group.get("name") == _name(spec) and tags(group).get(TAG_OWNER) == spec.owner
    ]
    return min(found, key=lambda group: (text(group.get("creation_date")), text(group.get("id"))), default=None)


def _make(account: Account, spec: ServerSpec) -> Json:
    body = {
        "name": _name(spec),
        "description": "Machines that serve models: nothing inbound but what they are asked to let in",
        "project": account.project_id,
        "tags": [f"{TAG_OWNER}={spec.owner}"],
        "enable_default_security": True,
        **_POLICY,
    }
    group = account.instance.ask("POST", _path(spec.location), body=body).payload.get("security_group")
    return group if isinstance(group, dict) else {}


def _present(account: Account, path: str) -> set[Rule | None]:
    """The rules as they are; None stands for one that we would not have made."""
    rules = listing.take(account.instance, f"{path}/rules", key="rules", size="per_page", params={}).whole()
    return {_read(rule) for rule in rules.values() if rule.get("editable") is not False}


def _read(rule: Json) -> Rule | None:
    ours = {"protocol": "TCP", "direction": "inbound", "action": "accept"}
    port = rule.get("dest_port_from")
    if any(rule.get(name) != value for name, value in ours.items()) or not isinstance(port, int):
        return None
    if rule.get("dest_port_to") not in (None, port):
        return None
    return _rule(text(rule.get("ip_range")), port)


def _rule(cidr: str, port: int) -> Rule:
    # The API says back "203.0.113.7" for 203.0.113.7/32.
    return (str(_network(cidr) or cidr), port)


def _as_rules(wanted: Iterable[Rule]) -> list[dict[str, object]]:
    return [
        {
            "action": "accept",
            "protocol": "TCP",
            "direction": "inbound",
            "ip_range": network,
            "dest_port_from": port,
            "dest_port_to": port,
            "position": position,
            "editable": True,  # a rule that is not is ignored
        }
        for position, (network, port) in enumerate(sorted(wanted), start=1)
    ]


def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(cidr)
    except ValueError:
        return None


def _name(spec: ServerSpec) -> str:
    return f"inventiv-{spec.owner}"


def _path(location: Location) -> str:
    return f"/instance/v1/zones/{location.zone}/security_groups"
