"""A driver that is only ever asked what works, and answers what a test has told it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fleet.providers.base import Finding, Location

Answer = Callable[[str, Location], Sequence[Finding]]  # by the account's secret key, and the place
_answers: list[Answer] = []


@dataclass(frozen=True)
class TalkativeDriver:
    secret_key: str

    def check(self, location: Location) -> Sequence[Finding]:
        return _answers[-1](self.secret_key, location)


def build(*, access_key: str, secret_key: str, project_id: str, api_url: str, image: str) -> TalkativeDriver:
    return TalkativeDriver(secret_key)


def answer(answer: Answer) -> None:
    _answers.append(answer)
