"""An error of ours in the words that the client of a path understands."""

from __future__ import annotations

import json

from routing.router.bodies.surfaces import Surface
from routing.router.errors import ApiError

# Anthropic's types of errors by HTTP status, as its API documents them ("Errors").
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def envelope(error: ApiError, surface: Surface | None) -> bytes:
    """The body of an answer; `surface` is None where the path is none of ours."""
    return _anthropic(error) if surface is not None and surface.anthropic else error.envelope()


def event(error: ApiError, surface: Surface) -> bytes:
    """The same for a stream that has begun. Anthropic's client passes over an event without a name: the stream would
    seem to have come to a good end."""
    if surface.anthropic:
        return b"event: error\ndata: " + _anthropic(error) + b"\n\n"
    return error.event()


def _anthropic(error: ApiError) -> bytes:
    kind = _ANTHROPIC_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return json.dumps({"type": "error", "error": {"type": kind, "message": error.message}}).encode()
