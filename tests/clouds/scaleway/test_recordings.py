"""The stand-in against the real API's recorded answers: the same calls get the same statuses and shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.clouds.scaleway import FakeScaleway, recordings
from tests.clouds.scaleway.recordings import Exchange
from tests.clouds.scaleway.shapes import differences
from tests.clouds.scaleway.state import Timing

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Replay:
    """Sends the recorded requests to the stand-in, at the recorded instants, with its own ids for the recorded ones."""

    def __init__(self) -> None:
        self.now = datetime(2025, 9, 2, 7, tzinfo=UTC)
        self.cloud = FakeScaleway(clock=lambda: self.now, timing=Timing(detach=0))
        self.ids: dict[str, str] = {}

    def send(self, recorded: Exchange) -> requests.Response:
        self.now = max(self.now, recorded.at)
        is_text = "/user_data/" in recorded.path and recorded.method == "PATCH"
        answer = requests.request(
            recorded.method,
            f"{self.cloud.url}{self._ours(recorded.path)}?{recorded.query}",
            data=self._ours(recorded.body),
            headers={"Content-Type": "text/plain" if is_text else "application/json"},
            timeout=30,
        )
        if recorded.method == "POST":
            self._learn(recorded.answer, answer.json())
        return answer

    def _ours(self, text: str) -> str:
        return _UUID.sub(lambda match: self.ids.get(match[0], match[0]), text)

    def _learn(self, theirs: Any, ours: Any) -> None:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for key in theirs.keys() & ours.keys():
                self._learn(theirs[key], ours[key])
        elif isinstance(theirs, str) and isinstance(ours, str) and _UUID.fullmatch(theirs):
            self.ids.setdefault(theirs, ours)


@pytest.fixture
def replay() -> Iterator[Replay]:
    replay = Replay()
    with replay.cloud:
        yield replay


def test_it_answers_recorded_calls_with_the_recorded_statuses_and_shapes(replay: Replay) -> None:
    assert len(recordings.exchanges()) == 33
    _rent_a_running_server_with_two_addresses(replay.cloud.url)

    for recorded in recordings.exchanges():
        answer = replay.send(recorded)
        call = f"{recorded.method} {recorded.path}: {answer.text}"

        assert answer.status_code == recorded.status, call
        assert ("X-Total-Count" in answer.headers) == recorded.is_counted, call
        if recorded.is_json:
            assert _unlike(answer.json(), recorded) == [], call
        else:
            assert answer.text == recorded.answer, call


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": "x", "size": None}, []),
        ({"id": "x", "size": 3}, []),
        ({"id": "x"}, ["$ has other keys than recorded: ['size']"]),
        ({"id": "x", "size": "3"}, ["$.size is a string, recorded: ['a number']"]),
        ({"id": "x", "size": 3, "more": 1}, ["$ has other keys than recorded: ['more']"]),
    ],
)
def test_a_shape_is_told_from_another(value: Any, expected: list[str]) -> None:
    assert differences(value, [{"id": "a", "size": 1}, {"id": "b", "size": None}]) == expected


def _unlike(answer: dict[str, Any], recorded: Exchange) -> list[str]:
    """Against every recorded thing of the kind, so that a value seen in one place only is known in all."""
    lists = {"servers": recordings.servers(), "ips": recordings.addresses()}
    singles = {"server": recordings.servers(), "ip": recordings.addresses()}
    for name, samples in lists.items():
        if name in answer:
            return differences(answer, [{name: samples}])
    for name, samples in singles.items():
        if name in answer:
            return differences(answer, [{name: sample} for sample in samples])
    return differences(answer, recordings.volumes() if "references" in answer else [recorded.answer])


def _rent_a_running_server_with_two_addresses(url: str) -> None:
    zone = f"{url}/instance/v1/zones/fr-par-1"
    body = {"commercial_type": "DEV1-M", "image": "e7682ee0-070a-40f8-9cde-f8bf1bc99674", "dynamic_ip_required": False}
    server_id = _post(f"{zone}/servers", body)["server"]["id"]
    for kind in ("routed_ipv4", "routed_ipv6"):
        _post(f"{zone}/ips", {"type": kind, "server": server_id, "tags": ["node-name=x"]})
    _post(f"{zone}/servers/{server_id}/action", {"action": "poweron"})


def _post(url: str, body: dict[str, Any]) -> Any:
    answer = requests.post(url, data=json.dumps(body), timeout=30)
    answer.raise_for_status()
    return answer.json()
