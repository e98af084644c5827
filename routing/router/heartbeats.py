"""`POST /internal/heartbeat`: a worker's agent says how it is. Redis is all that it touches."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from routing import addresses
from routing.discovery.directory import Directory, Heard
from routing.discovery.records import Heartbeat
from routing.router import errors, limits
from routing.router.asgi import Receive, Scope, Send, answer_json
from routing.router.clients.authentication import bearer_sha256
from routing.router.errors import ApiError

PATH = "/internal/heartbeat"

_MAX_BODY, _BODY_TIMEOUT = 16 * 1024, 10.0
_LONGEST_ID, _LONGEST_DETAIL, _LONGEST_INSTANT, _LARGEST_LOAD = 64, 500, 40, 1_000_000
_SERVING = frozenset({"PROVISIONING", "BOOTING", "READY"})  # in any other status the worker is to drain


class Heartbeats:
    """`trusted_proxies`: where X-Forwarded-For is believed; from anybody else, the peer is the sender."""

    def __init__(self, *, directory: Directory, trusted_proxies: Sequence[addresses.Network] = ()) -> None:
        self._directory = directory
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers {"status": the instance's, "drain": bool}. Raises ApiError: 401 not its token, 403 not its address,
        404 no such instance, 503 the index is not whole, try again."""
        token_sha256 = bearer_sha256(scope["state"]["fields"])
        if token_sha256 is None:
            raise _REFUSED[Heard.WRONG_TOKEN]()
        body = await limits.read_body(scope, receive, limit=_MAX_BODY, within=_BODY_TIMEOUT)
        outcome, status = await self._directory.heartbeat(
            _parse(body), token_sha256=token_sha256, address=self._sender(scope)
        )
        if outcome in _REFUSED:
            raise _REFUSED[outcome]()
        await answer_json(send, {"status": status, "drain": status not in _SERVING})

    def _sender(self, scope: Scope) -> str:
        peer, _ = scope["client"] or ("", 0)
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return addresses.of_client(peer, forwarded=forwarded, trusted=self._trusted_proxies)


def _wrong_token() -> ApiError:
    return ApiError(401, "This is not the agent token of this instance", code="invalid_agent_token")


def _wrong_address() -> ApiError:
    return ApiError(403, "This is not the address of this instance", code="invalid_agent_address")


def _unknown() -> ApiError:
    return ApiError(404, "No such instance", code="instance_not_found", param="instance_id")


_REFUSED: Mapping[Heard, Callable[[], ApiError]] = {
    Heard.WRONG_TOKEN: _wrong_token,
    Heard.WRONG_ADDRESS: _wrong_address,
    Heard.UNKNOWN: _unknown,
    Heard.LOST: errors.index_lost,
}


def _parse(body: bytes) -> Heartbeat:
    try:
        raw: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise errors.bad_request("The heartbeat is not valid JSON") from None
    if not isinstance(raw, dict):
        raise errors.bad_request("The heartbeat must be a JSON object")
    match raw:
        case {"instance_id": str(instance_id), "ready": bool(ready), "load": int(load)} if not isinstance(load, bool):
            pass
        case _:
            raise errors.bad_request("A heartbeat has instance_id (string), ready (boolean) and load (integer)")
    if not (0 < len(instance_id) <= _LONGEST_ID and instance_id.isascii()):
        raise errors.bad_request("That is no instance's id", param="instance_id")
    if not 0 <= load <= _LARGEST_LOAD:
        raise errors.bad_request("That is no load", param="load")
    interruption = raw.get("interruption") or ""
    if not (isinstance(interruption, str) and len(interruption) <= _LONGEST_INSTANT and _is_plain(interruption)):
        raise errors.bad_request("That is no instant", param="interruption")
    # Its own words, for people; a surrogate that stands alone could not be written down.
    detail = str(raw.get("detail") or "")[:_LONGEST_DETAIL].encode(errors="replace").decode()
    return Heartbeat(instance_id=instance_id, ready=ready, load=load, detail=detail, interruption=interruption)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
