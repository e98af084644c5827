"""One request of a client, and what has become of it so far: what the pipeline's steps hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from routing.discovery.directory import Admission
from routing.discovery.records import Allowance, ClientKey, ServedModel
from routing.router.asgi import Headers, Send
from routing.router.bodies.metering import Tap
from routing.router.bodies.surfaces import Surface
from routing.router.choice.selection import Place
from routing.router.passage import Passage
from routing.router.wire.upstream import Body


class Question(Protocol):
    """What is asked of the engine, as `payloads.Asked` and `forms.AskedByForm` have it."""

    @property
    def model(self) -> str:
        """As the client names it."""

    @property
    def streamed(self) -> bool: ...

    @property
    def size(self) -> int:
        """Bytes of the body; 0 where that is not known yet."""

    @property
    def wants_usage(self) -> bool:
        """Whether the client is to see the usage at the end of a stream."""

    @property
    def token_estimate(self) -> int:
        """Input and output together, to be reserved."""

    @property
    def prompt_estimate(self) -> int: ...

    @property
    def resendable(self) -> bool:
        """Whether another instance may still be asked."""

    def forget(self) -> None:
        """Nobody will be asked again."""

    def prefix(self) -> bytes | None: ...

    def body_for(self, model_id: str, *, ask_usage: bool) -> Body: ...


@dataclass(slots=True, eq=False)
class Call:
    surface: Surface
    headers: Headers
    send: Send
    passage: Passage
    key: ClientKey
    question: Question
    chain: tuple[ServedModel, ...] = ()  # who may answer, the first first
    affinity: bytes | None = None  # what requests for the same instance have in common
    excluded: tuple[str, ...] = ()  # instances that have failed it
    admission: Admission | None = None  # of a key with limits
    allowance: Allowance | None = None  # not None: the admission was counted
    place: Place | None = None  # taken, and to be given back
    model: ServedModel | None = None  # whose instance was taken last
    tap: Tap | None = None  # on the answer
    is_events: bool = False  # whether the answer is a stream of them
    started: bool = False  # whether the client has got the head of an answer
    more_headers: Headers = field(default_factory=list)  # for the answer's head
