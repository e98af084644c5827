"""Where a request comes from: its peer's address, or what a trusted proxy says of it. Never imports Django."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1"))
UNKNOWN = str(IPv4Address(0))  # a peer without an address of its own, such as that of a Unix socket


def canonical(text: str) -> str:
    """The one spelling under which two addresses can be compared: IPv6 in its short form and without an interface, an
    IPv4 address that is mapped into IPv6 (as a socket that listens on both shows it) as IPv4. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address)


def networks(words: Iterable[str]) -> tuple[Network, ...]:
    """From "10.0.0.0/8" or a lone address each. Raises ValueError, which names the wrong word."""
    return tuple(ip_network(word) for word in words)


def is_within(canonical_address: str, among: Iterable[Network]) -> bool:
    address = ip_address(canonical_address)
    return any(address in network for network in among)


def of_client(peer: str, *, forwarded: Iterable[str] = (), trusted: Sequence[Network] = ()) -> str:
    """The canonical address of whoever sent the request.

    `forwarded`: the values of X-Forwarded-For, in their order. Each proxy adds the address that it was called from
    on the right, so the list is read from there, and only as far as trusted proxies wrote it: what stands to the
    left of the first stranger is that stranger's own claim.
    """
    address = _parse(peer)
    if address is None:
        return UNKNOWN
    hops = [hop for value in forwarded for hop in value.split(",")]
    while hops and any(address in network for network in trusted):
        before = _parse(hops.pop())
        if before is None:
            break
        address = before
    return str(address)


def _parse(hop: str) -> IPv4Address | IPv6Address | None:
    """Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return ip_address(canonical(text))
    except ValueError:
        return None
