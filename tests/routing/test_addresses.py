"""Where a request comes from."""

from __future__ import annotations

import pytest

from routing import addresses

PROXIES = addresses.networks(["10.0.0.0/8", "2001:db8::1"])


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:0DB8:0:0::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_spelling(written: str, canonical: str) -> None:
    assert addresses.canonical(written) == canonical


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),  # anybody may write that
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.9"], "198.51.100.9"),
        ("2001:db8::1", ["2001:db8::9"], "2001:db8::9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),  # the left one is the sender's own claim
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["198.51.100.9, 10.0.0.3,10.0.0.2"], "198.51.100.9"),
        ("10.0.0.1", ["198.51.100.9:4711"], "198.51.100.9"),
        ("10.0.0.1", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("10.0.0.1", ["10.0.0.4"], "10.0.0.4"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.9, unknown"], "10.0.0.1"),
        ("", ["198.51.100.9"], "0.0.0.0"),
    ],
)
def test_forwarded_addresses_are_believed_as_far_as_trusted_proxies_wrote_them(
    peer: str, forwarded: list[str], sender: str
) -> None:
    assert addresses.of_client(peer, forwarded=forwarded, trusted=PROXIES) == sender


@pytest.mark.parametrize("word", ["10.0.0.0/33", "10.0.0.1/8", "proxy.example"])
def test_a_word_that_is_no_network_is_named(word: str) -> None:
    with pytest.raises(ValueError, match=word):
        addresses.networks(["10.0.0.0/8", word])
