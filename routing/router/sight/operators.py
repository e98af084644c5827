"""Who may look inside the router: whoever asks from the operators' networks. To anybody else there is nothing there."""

from __future__ import annotations

from collections.abc import Sequence

from routing import addresses
from routing.router import errors
from routing.router.asgi import Scope

_SIGNS_OF_A_PROXY = frozenset({b"x-forwarded-for", b"x-real-ip", b"forwarded", b"via"})


class Operators:
    """`trusted_proxies`: whose X-Forwarded-For is believed."""

    def __init__(
        self, networks: Sequence[addresses.Network], *, trusted_proxies: Sequence[addresses.Network] = ()
    ) -> None:
        self._networks = networks
        self._trusted_proxies = trusted_proxies

    def admit(self, scope: Scope) -> None:
        """Raises ApiError: 404, as for a path that does not exist."""
        if not self._are_asking(scope):
            raise errors.unknown_path(scope["method"], scope["path"])

    def _are_asking(self, scope: Scope) -> bool:
        peer, _ = scope["client"] or ("", 0)
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        sender = addresses.of_client(peer, forwarded=forwarded, trusted=self._trusted_proxies)
        if sender == addresses.of_client(peer) and any(name in _SIGNS_OF_A_PROXY for name, _ in scope["headers"]):
            # The peer speaks for somebody whom we don't know. A proxy on this very host would else open to the
            # whole world what is meant for the host alone.
            return False
        return addresses.is_within(sender, self._networks)
