"""A driver whose every request is answered by a function: for answers that no stand-in would give."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import requests
from requests.adapters import BaseAdapter

from fleet.providers.base import Location
from fleet.providers.scaleway import build
from fleet.providers.scaleway.provider import ScalewayProvider

LOCATION = Location(region="fr-par", zone="fr-par-1")
SECRET_KEY = "22222222-2222-4222-8222-222222222222"

# To method and path: a status, and a body, which is JSON unless it is text.
Say = Callable[[str, str], tuple[int, Any]]


def driver(say: Say) -> ScalewayProvider:
    session = requests.Session()
    session.mount("https://", _Wire(say))
    return build(
        access_key="SCW" + "X" * 17,
        secret_key=SECRET_KEY,
        project_id="11111111-1111-1111-1111-111111111111",
        session=session,
    )


def not_found(resource: str) -> tuple[int, Any]:
    return 404, {"type": "not_found", "message": "resource is not found", "resource": resource, "resource_id": "x"}


class _Wire(BaseAdapter):
    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def send(  # noqa: PLR0917 - the library's signature
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        status, body = self._say(request.method or "", request.path_url.partition("?")[0])
        response = requests.Response()
        response.status_code = status
        if 300 <= status < 400:
            response.headers["Location"] = "https://elsewhere.example/"
        response._content = (body if isinstance(body, str) else json.dumps(body)).encode()
        response.request, response.url = request, request.url or ""
        return response

    def close(self) -> None:
        """Nothing is open."""
