"""One exchange with Scaleway's API: the SDK's request over a session of our own, its failure as an error of `base`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import requests
from scaleway_core.api import API, Body
from scaleway_core.client import Client
from urllib3.exceptions import MaxRetryError, NewConnectionError

from fleet.providers.base import AmbiguousOutcome, ProviderError, Unavailable
from fleet.providers.scaleway.refusals import refusal

Json = Mapping[str, Any]

_NOTHING: Json = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Answer:
    payload: Json
    total: int | None  # of a listing: how many there are in all its pages; None: not said


class Exchange(API):
    """Mixed into the SDK's API classes, whose own `_request` has no time-out and loses the status of an empty body."""

    def __init__(self, client: Client, *, session: requests.Session, timeout: tuple[float, float]) -> None:
        super().__init__(client, bypass_validation=True)
        self._session = session
        self._timeout = timeout

    def ask(self, method: str, path: str, *, params: Json = _NOTHING, body: Body | None = None) -> Answer:
        """A call whose answer is read: a JSON object."""
        response = self._request(method, path, params=params, body=body)
        try:
            payload = response.json()
        except ValueError:
            payload = None
        if not isinstance(payload, dict):
            raise _unclear(method)(f"{method} {path}: {response.status_code} with an answer that can't be read")
        return Answer(payload, _total(response.headers.get("X-Total-Count"), payload.get("total_count")))

    def _request(
        self,
        method: str,
        path: str,
        params: Json = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
        body: Body | None = None,
    ) -> requests.Response:
        method = method.upper()
        what = f"{method} {path}"
        try:
            response = self._session.request(
                method,
                f"{self.client.api_url}{path}",
                params=_present(params),
                headers=self._headers(method) | dict(headers),
                data=None if method in {"GET", "DELETE"} else _encoded(body),
                timeout=self._timeout,
                verify=not self.client.api_allow_insecure,
                allow_redirects=False,  # the token goes where it was meant to go
            )
        except requests.RequestException as error:
            failure = Unavailable if _was_never_sent(error) else _unclear(method)
            raise failure(f"{what}: no answer ({type(error).__name__})") from error
        if response.status_code >= 300:
            raise refusal(response, what=what, unclear=_unclear(method), secret=self.client.secret_key or "")
        return response

    def _headers(self, method: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": self.client.user_agent or "inventiv"}
        if method in {"POST", "PUT", "PATCH"}:
            headers["Content-Type"] = "application/json; charset=utf-8"
        return headers | {"X-Auth-Token": self.client.secret_key or ""}


def _unclear(method: str) -> type[ProviderError]:
    """What a missing or unreadable answer means: after a read nothing has changed, after anything else who knows."""
    return Unavailable if method == "GET" else AmbiguousOutcome


def _was_never_sent(error: requests.RequestException) -> bool:
    if isinstance(error, requests.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)


def _present(params: Json) -> list[tuple[str, str]]:
    return [
        (name, str(item).lower() if isinstance(item, bool) else str(item))
        for name, value in params.items()
        if value is not None
        for item in (value if isinstance(value, list) else [value])
    ]


def _encoded(body: Body | None) -> bytes:
    return body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()


def _total(*said: object) -> int | None:
    for value in said:
        if isinstance(value, int | str) and str(value).isdigit():
            return int(value)
    return None
