"""One request on its way through the router: what is known of it while it lasts, and what is told of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from routing.router.asgi import Scope
from routing.router.sight.trace_context import Trace


@dataclass(slots=True)
class Tokens:
    """As the engine counts them. `cached`: of the input, found in its prefix cache."""

    input: int = 0
    output: int = 0
    cached: int = 0


@dataclass(slots=True, eq=False)
class Passage:
    """Instants are seconds of `time.perf_counter`; 0 = it did not come to that. Text that is not known yet is empty."""

    request_id: str
    operation: str  # see `surfaces`
    started: float = field(default_factory=time.perf_counter)
    key_id: str = ""
    model_id: str = ""  # as the catalogue has it, alias and fallback resolved
    instance_id: str = ""  # the last that was tried
    streamed: bool = False
    attempts: int = 0  # instances that it was sent to
    queued: float = 0.0  # seconds it waited for a free place
    selected: float = 0.0  # seconds that choosing took, the queue left out
    sent_at: float = 0.0  # when the last instance was asked
    first_byte_at: float = 0.0  # when the answer's first byte of body came
    ended_at: float = 0.0
    chunks: int = 0  # of the answer's body, as they came
    status: int = 0  # HTTP's; 499 = the client left before the end
    error_code: str = ""  # of OpenAI's envelope, for an error of ours, in the middle of a stream too
    tokens: Tokens | None = None  # None: nothing was made, or nobody can say
    estimated: bool = False  # the tokens are not the engine's own count
    cost_micros: int = 0  # by the model's prices
    request_bytes: int = 0  # of the body
    response_bytes: int = 0  # of the body, as it was sent to the client
    client: str = ""  # its address, where an access log is kept
    trace: Trace | None = None  # where traces are kept


Beginner = Callable[[Passage, Scope], None]  # told when a passage begins; as an Observer
Observer = Callable[[Passage], None]  # told once, when the passage is over; it must be quick and must not raise
