"""A request and an answer, without HTTP's details; and what all listings have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.clouds.scaleway import errors
from tests.clouds.scaleway.faults import Faults

_LARGEST_PAGE = 100
_USUAL_PAGE = 50


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        try:
            body = json.loads(self.body or b"{}")
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise errors.invalid_argument("body", "format")
        return body

    def argument(self, name: str) -> str | None:
        values = self.query.get(name)
        return values[0] if values else None

    def number(self, *names: str, default: int) -> int:
        for name in names:
            value = self.argument(name)
            if value is not None and value.isdigit():
                return int(value)
        return default

    def tags(self) -> list[str]:
        """The Instance API joins them by commas, the Block API repeats the argument."""
        return [tag for value in self.query.get("tags", []) for tag in value.split(",") if tag]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    payload: dict[str, Any] | bytes | None = None  # bytes: text/plain
    headers: dict[str, str] = field(default_factory=dict)


def page_of(request: Request, items: Sequence[Any], faults: Faults) -> list[Any]:
    size = min(max(request.number("per_page", "page_size", default=_USUAL_PAGE), 1), _LARGEST_PAGE)
    page = max(request.number("page", default=1), 1)
    if page > 1 and faults.partial_listings:
        raise errors.bad_gateway()
    return list(items[(page - 1) * size : page * size])


def total_of(items: Sequence[Any], faults: Faults) -> int:
    """The Instance API says it in the header X-Total-Count, the others in the body's `total_count`."""
    return len(items) + (1 if faults.partial_listings else 0)
