"""What Scaleway says when it refuses, as the errors of `base`. The `type` in the body decides, the status does not.

Types and shapes: `scaleway-sdk-go`, scw/errors.go, and recorded exchanges.
"""

from __future__ import annotations

import json
from typing import Any

import requests

from fleet.providers.base import (
    AuthError,
    CapacityError,
    Conflict,
    InvalidSpec,
    NotFound,
    ProviderError,
    QuotaError,
    Throttled,
)


class PermissionDenied(AuthError):
    """The credentials are good, and lack this right."""


_BY_TYPE: dict[str, type[ProviderError]] = {
    "not_found": NotFound,
    "invalid_arguments": InvalidSpec,
    "invalid_request_error": InvalidSpec,
    "denied_authentication": AuthError,
    "permissions_denied": PermissionDenied,
    "quotas_exceeded": QuotaError,
    "out_of_stock": CapacityError,
    "transient_state": Conflict,
    "precondition_failed": Conflict,
    "resource_locked": Conflict,
    "too_many_requests": Throttled,
}
# For a body without a known type: a gateway's, or none at all. A 404 is not in it: only a typed one means absent.
_BY_STATUS: dict[int, type[ProviderError]] = {
    400: InvalidSpec,
    401: AuthError,
    403: PermissionDenied,
    409: Conflict,
    412: Conflict,
    422: InvalidSpec,
    429: Throttled,
}
_LONGEST = 500  # characters of what the cloud says that go into an error


def refusal(response: requests.Response, *, what: str, unclear: type[ProviderError], secret: str) -> ProviderError:
    """The error for an answer that is not a success. `unclear`: the one for an answer that says nothing."""
    body = _body(response)
    kind = body.get("type")
    error = _BY_TYPE.get(kind) if isinstance(kind, str) else None
    error = error or _BY_STATUS.get(response.status_code) or unclear
    said = " ".join(filter(None, [str(response.status_code), _text(kind), _text(body.get("message")), _details(body)]))
    return error(_without(secret, f"{what}: {said}"))


def _body(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _details(body: dict[str, Any]) -> str:
    named = {name: body[name] for name in ("resource", "current_state", "precondition", "details") if body.get(name)}
    return json.dumps(named)[:_LONGEST] if named else ""


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _without(secret: str, text: str) -> str:
    return text.replace(secret, "***") if secret else text
