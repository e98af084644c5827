"""What a command refuses, as an answer of the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rest_framework.exceptions import APIException, ErrorDetail

from fleet.api.plans import shown
from fleet.commands import CommandRefused

_WRONG_MOMENT = frozenset({"not_over"})  # the same request may succeed later


class Refused(APIException):
    """422: understood, but it can't be done; 409: not now. Nothing was written."""

    default_code = "refused"

    def __init__(self, refusal: CommandRefused) -> None:
        super().__init__({refusal.field: [ErrorDetail(refusal.message, code=refusal.code)]})
        self.status_code = 409 if refusal.code in _WRONG_MOMENT else 422
        self.default_code = refusal.code
        # Where nothing fits, the caller is told of every offer why.
        self.extensions = {} if refusal.plan is None else {"plan": shown(refusal.plan)}


@contextmanager
def refusals() -> Iterator[None]:
    """Around a command: what it refuses becomes the answer."""
    try:
        yield
    except CommandRefused as refusal:
        raise Refused(refusal) from refusal
