"""The OpenAPI document: what it leaves out, and the problems that every operation may answer with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inventiv.api.problems import CONTENT_TYPE

Endpoint = tuple[str, str, str, Callable[..., Any]]  # path, path's regex, method, view

_UNLISTED = ("/api/backend/", "/api-docs/", "/internal/")

_FAULT = {
    "type": "object",
    "required": ["field", "message", "code"],
    "properties": {
        "field": {"type": "string", "description": 'As a path: "limits.zones"; empty for the whole body'},
        "message": {"type": "string"},
        "code": {"type": "string"},
    },
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail", "instance", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The path that was asked for"},
        "errors": {"type": "array", "items": _FAULT},
        "plan": {"type": "object", "description": "Where nothing fits: every offer and why it is left out"},
    },
}


def without_unlisted(endpoints: list[Endpoint], **_: Any) -> list[Endpoint]:
    """Preprocessing hook: the second address of the same API, and what is between our own machines."""
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith(_UNLISTED)]


def with_summaries(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook: a list of operations shows a line for each, the first of what is said about it."""
    for operations in result["paths"].values():
        for operation in operations.values():
            if described := operation.get("description"):
                operation.setdefault("summary", described.partition("\n")[0].partition(". ")[0].rstrip("."))
    return result


def with_problems(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Postprocessing hook: the problems that an operation may answer with, each under its status."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            for status in _problems_of(path, method, operation):
                operation["responses"].setdefault(status, _response(_WORDS[status]))
    return result


_WORDS = {
    "400": "Something in the request is wrong: `errors` names it",
    "401": "Not logged in, or with a key that is unknown, expired or revoked",
    "403": "The role or the key's scopes do not allow it",
    "404": "There is no such thing",
    "409": "It conflicts with what is there",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "422": "Understood, but it can't be done: `errors` names what to change",
    "default": "Any other fault",
}


def _problems_of(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    asked = {parameter["name"] for parameter in operation.get("parameters", ()) if parameter["in"] != "path"}
    writes = method in ("post", "put", "patch")
    possible = {
        "400": writes or bool(asked),
        "404": "{" in path or "page" in asked,
        "409": method != "get",
        "413": writes,
        "415": writes,
        "422": writes,
    }
    return sorted(["401", "403", "default", *(status for status, may_be in possible.items() if may_be)])


def _response(words: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": words, "content": {CONTENT_TYPE: {"schema": schema}}}
