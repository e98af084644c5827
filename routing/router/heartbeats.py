"""`POST /internal/heartbeat`: a worker's agent says how it is. Redis is all that it touches."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from routing.discovery.directory import Directory, Heard
from routing.router import errors, limits
from routing.router.asgi import Receive, Scope, Send, answer_json
from routing.router.authentication import bearer_sha256
from routing.router.errors import ApiError

PATH = "/internal/heartbeat"

_MAX_BODY, _BODY_TIMEOUT = 16 * 1024, 10.0
_LONGEST_ID, _LONGEST_DETAIL, _LARGEST_LOAD = 64, 500, 1_000_000
_SERVING = frozenset({"PROVISIONING", "BOOTING", "READY"})  # in any other status the worker is to drain


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    instance_id: str
    ready: bool
    load: int
    detail: str


async def hear(scope: Scope, receive: Receive, send: Send, *, directory: Directory) -> None:
    """Answers {"status": the instance's, "drain": bool}. Raises ApiError: 401 not its token, 404 no such instance,
    503 the index is not whole, try again."""
    token_sha256 = bearer_sha256(scope["headers"])
    if token_sha256 is None:
        raise _refused()
    body = await limits.read_body(receive, scope["headers"], limit=_MAX_BODY, within=_BODY_TIMEOUT)
    beat = _parse(body)
    outcome, status = await directory.heartbeat(
        beat.instance_id, token_sha256=token_sha256, ready=beat.ready, load=beat.load, detail=beat.detail
    )
    if outcome is Heard.REFUSED:
        raise _refused()
    if outcome is Heard.UNKNOWN:
        raise ApiError(404, "No such instance", code="instance_not_found", param="instance_id")
    if outcome is Heard.LOST:
        raise errors.index_lost()
    await answer_json(send, {"status": status, "drain": status not in _SERVING})


def _refused() -> ApiError:
    return ApiError(401, "This is not the agent token of this instance", code="invalid_agent_token")


def _parse(body: bytes) -> _Heartbeat:
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
    # Its own words, for people; a surrogate that stands alone could not be written down.
    detail = str(raw.get("detail") or "")[:_LONGEST_DETAIL].encode(errors="replace").decode()
    return _Heartbeat(instance_id=instance_id, ready=ready, load=load, detail=detail)
