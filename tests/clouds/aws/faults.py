"""Troubles that are waiting for a call: each befalls one call, in all the attempts that the SDK makes at it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from tests.clouds.aws.wire import Call


class Mishap(enum.Enum):
    """What is no answer of AWS."""

    EMPTY_429 = enum.auto()
    HTML_502 = enum.auto()
    HTML_404 = enum.auto()  # of a proxy that knows no such place
    HTML_200 = enum.auto()  # a log-in page of somebody's network
    EMPTY_PAGE = enum.auto()  # a document without anything in it
    HANG = enum.auto()
    REFUSED = enum.auto()  # the connection
    REQUEST_LOST = enum.auto()
    ANSWER_LOST = enum.auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of AWS: an error."""

    status: int
    code: str
    message: str = "The stand-in says so."


Trouble = Mishap | Refusal


class Faults:
    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[Call], bool], Trouble]] = []
        self._met: dict[str, Trouble] = {}
        self._lock = Lock()
        self.outage: Trouble | None = None  # of every call, until it is taken back

    def clear(self) -> None:
        self.outage = None
        self._waiting.clear()
        self._met.clear()

    def await_call(self, trouble: Trouble, *, which: Callable[[Call], bool] = lambda _: True) -> None:
        self._waiting.append((which, trouble))

    def hangs(self) -> bool:
        """Whether a call is going to hang."""
        return any(trouble is Mishap.HANG for _, trouble in self._waiting)

    def meets(self, call: Call) -> Trouble | None:
        with self._lock:
            if self.outage is not None:
                return self.outage
            if call.invocation not in self._met:
                for entry in self._waiting:
                    if entry[0](call):
                        self._waiting.remove(entry)
                        self._met[call.invocation] = entry[1]
                        break
            return self._met.get(call.invocation)
