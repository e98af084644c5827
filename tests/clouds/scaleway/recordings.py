"""The exchanges with the real API that the SDK's wheel ships, as they were recorded in September 2025."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import scaleway
import yaml


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer."""

    method: str
    path: str
    query: str
    body: str
    at: datetime
    status: int
    answer: Any  # JSON; a string where it is none
    is_counted: bool  # the answer says in a header how many things there are in all pages

    @property
    def is_json(self) -> bool:
        return not isinstance(self.answer, str)


@cache
def exchanges() -> tuple[Exchange, ...]:
    """In the order in which they happened: the recordings of one run are spread over files."""
    folder = Path(scaleway.__file__).parent / "instance/v1/tests/cassettes"
    found = [
        _exchange(entry)
        for file in sorted(folder.glob("*.yaml"))
        for entry in yaml.safe_load(file.read_text())["interactions"]
    ]
    return tuple(sorted(found, key=lambda one: one.at))


def servers() -> list[dict[str, Any]]:
    return _things("server", "servers")


def addresses() -> list[dict[str, Any]]:
    return _things("ip", "ips")


def volumes() -> list[dict[str, Any]]:
    return [one.answer for one in exchanges() if one.is_json and "references" in one.answer]


def _things(one: str, many: str) -> list[dict[str, Any]]:
    return [thing for answer in _answers() for thing in ([answer[one]] if one in answer else answer.get(many, []))]


def _answers() -> Iterator[dict[str, Any]]:
    return (one.answer for one in exchanges() if one.is_json)


def _exchange(entry: dict[str, Any]) -> Exchange:
    request, response = entry["request"], entry["response"]
    url = urlsplit(request["uri"])
    return Exchange(
        method=request["method"],
        path=url.path,
        query=url.query,
        body=request["body"] or "",
        at=parsedate_to_datetime(response["headers"]["date"][0]),
        status=response["status"]["code"],
        answer=_answer(response["body"]["string"]),
        is_counted="x-total-count" in response["headers"],
    )


def _answer(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body
