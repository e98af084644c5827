"""The end of a machine: the server, then what outlives it. Each call takes one step and waits for nothing."""

from __future__ import annotations

import logging

from fleet.providers.base import Conflict, Destruction, Handle, NotFound
from fleet.providers.scaleway import addresses, servers, volumes
from fleet.providers.scaleway.account import Account
from fleet.providers.scaleway.answers import text

log = logging.getLogger(__name__)

_ON_ITS_WAY = frozenset({"starting", "stopping"})  # both verbs are refused: look again


def step(account: Account, handle: Handle) -> Destruction:
    # The server first: it costs most, and holds its volumes.
    if handle.server_id and not _server_is_gone(account, handle):
        return Destruction(frozenset({handle.server_id, *handle.volume_ids, *handle.ip_ids}))
    remaining = [id_ for id_ in handle.volume_ids if not volumes.is_gone(account, id_, handle.location)]
    remaining += [id_ for id_ in handle.ip_ids if not addresses.is_gone(account, id_, handle.location)]
    return Destruction(frozenset(remaining))


def _server_is_gone(account: Account, handle: Handle) -> bool:
    """Take the next step towards its end. Only the Instance API's "not found" makes it True."""
    try:
        _end(account, handle)
    except NotFound:
        return True
    except Conflict as error:
        log.warning("server %s can't be ended yet: %s", handle.server_id, error)
    return False


def _end(account: Account, handle: Handle) -> None:
    state = text(servers.read(account, handle.server_id, handle.location).get("state"))
    if state in _ON_ITS_WAY:
        return
    if state == "stopped":
        servers.delete(account, handle.server_id, handle.location)
    else:
        # Also for a state that we have not met: it may bill, and a refusal costs nothing.
        servers.act(account, handle.server_id, "terminate", handle.location)
