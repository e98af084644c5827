"""A request's place in a trace, as W3C Trace Context writes it in headers. Knows nothing of OpenTelemetry.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import getrandbits

from routing.router.asgi import Headers

_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_VERSION_0_LENGTH = 55
_LONGEST_STATE = 512
_SAMPLED = 1
_OURS = frozenset({b"traceparent", b"tracestate"})


@dataclass(frozen=True, slots=True)
class Parent:
    """What a client says of the span that the request is part of."""

    trace_id: int
    span_id: int
    is_sampled: bool
    state: bytes  # other vendors' words; passed on as it is


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    trace_id: int
    parent: Parent | None
    is_sampled: bool  # False: nothing is recorded, and the engine is told so
    span_id: int  # of the router's span
    upstream_id: int  # of the span in it that the engine's is part of

    @classmethod
    def begin(cls, parent: Parent | None, *, is_sampled: bool) -> Trace:
        trace_id = parent.trace_id if parent is not None else getrandbits(128)
        return cls(trace_id, parent, is_sampled, span_id=getrandbits(64), upstream_id=getrandbits(64))

    def on(self, headers: Headers) -> Headers:
        """The headers as they go on to the engine."""
        kept = [each for each in headers if each[0] not in _OURS]
        value = f"00-{self.trace_id:032x}-{self.upstream_id:016x}-{self.is_sampled:02x}"
        kept.append((b"traceparent", value.encode()))
        if self.parent is not None and self.parent.state:
            kept.append((b"tracestate", self.parent.state))
        return kept


def parent_of(headers: Headers) -> Parent | None:
    """None: the client does not trace, or writes nonsense, which counts as nothing."""
    found = [value for name, value in headers if name == b"traceparent"]
    if len(found) != 1:
        return None
    match = _PARENT.fullmatch(found[0])
    if match is None or (found[0].startswith(b"00") and len(found[0]) != _VERSION_0_LENGTH):
        return None
    trace_id, span_id, flags = (int(each, 16) for each in match.group(1, 2, 3))
    if not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, is_sampled=bool(flags & _SAMPLED), state=_state(headers))


def _state(headers: Headers) -> bytes:
    state = b",".join(value for name, value in headers if name == b"tracestate")
    return state if len(state) <= _LONGEST_STATE else b""
