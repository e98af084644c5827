"""An error of ours, as clients of the two APIs read it."""

from __future__ import annotations

import json

import pytest

from routing.router import errors
from routing.router.bodies import dialects
from routing.router.bodies.surfaces import BY_PATH
from routing.router.errors import ApiError

CHAT = BY_PATH["/v1/chat/completions"]
MESSAGES = BY_PATH["/v1/messages"]


def test_openais_clients_get_openais_envelope() -> None:
    error = errors.model_not_found("m")

    assert dialects.envelope(error, CHAT) == error.envelope()
    assert dialects.event(error, CHAT) == b"data: " + error.envelope() + b"\n\n"


def test_anthropics_clients_get_an_event_that_is_named_error() -> None:
    name, data, *end = dialects.event(errors.upstream_failed("It broke"), MESSAGES).split(b"\n")

    assert (name, end) == (b"event: error", [b"", b""])
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": "error",
        "error": {"type": "api_error", "message": "It broke"},
    }


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.bad_request("x"), "invalid_request_error"),
        (errors.invalid_key("x"), "authentication_error"),
        (errors.model_not_found("x"), "not_found_error"),
        (errors.body_too_large(1), "request_too_large"),
        (errors.body_too_slow(), "invalid_request_error"),
        (errors.none_ready("x"), "overloaded_error"),
        (errors.upstream_too_slow("x"), "timeout_error"),
        (errors.our_fault(), "api_error"),
    ],
)
def test_every_error_has_a_type_that_anthropic_knows(error: ApiError, kind: str) -> None:
    told = json.loads(dialects.envelope(error, MESSAGES))

    assert told == {"type": "error", "error": {"type": kind, "message": error.message}}
