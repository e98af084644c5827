"""Who may look inside the router."""

from __future__ import annotations

import pytest

from routing import addresses
from routing.router.asgi import Send
from routing.router.errors import ApiError
from routing.router.sight.operators import Operators
from tests.routing.router.asking import ask

INSIDE = addresses.networks(["10.0.0.0/8", "127.0.0.0/8"])
PROXIES = addresses.networks(["10.0.0.1"])


async def are_admitted(peer: str, headers: dict[str, str]) -> bool:
    operators = Operators(INSIDE, trusted_proxies=PROXIES)

    async def endpoint(scope: dict[str, object], send: Send) -> None:
        operators.admit(scope)

    try:
        await ask(endpoint, "/metrics", peer=peer, headers=headers)  # type: ignore[arg-type]
    except ApiError as error:
        return (error.status, error.code) != (404, "unknown_url")
    return True


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.1.2.3", {}),
        ("::ffff:127.0.0.1", {}),
        ("10.0.0.1", {"x-forwarded-for": "10.9.9.9", "via": "1.1 proxy"}),
    ],
)
async def test_they_are_admitted_from_their_networks(peer: str, headers: dict[str, str]) -> None:
    assert await are_admitted(peer, headers)


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.1", {}),
        ("", {}),
        ("192.0.2.1", {"x-forwarded-for": "10.9.9.9"}),  # anybody may write that
        ("10.0.0.1", {"x-forwarded-for": "192.0.2.1"}),
        ("10.0.0.1", {"x-forwarded-for": "unknown"}),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.1"}),  # a proxy beside us that nobody told us of
        ("127.0.0.1", {"forwarded": "for=192.0.2.1"}),
        ("127.0.0.1", {"via": "1.1 proxy"}),
    ],
)
async def test_nobody_else_is(peer: str, headers: dict[str, str]) -> None:
    assert not await are_admitted(peer, headers)
