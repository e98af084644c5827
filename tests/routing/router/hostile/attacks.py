"""What an attack is made of. All of it follows from a seed: a failure names the attack, and can be had again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
CRLF = b"\r\n"
REFUSED = frozenset({400, 431})
ANY_ANSWER = frozenset({200, 400, 404})


@dataclass(frozen=True)
class Ground:
    """What an attacker knows who has a key of his own."""

    key: str
    model: str


@dataclass(frozen=True)
class Attack:
    """One connection's worth of bytes."""

    name: str
    data: bytes
    request_id: str  # of its first request, as an engine would see it
    statuses: frozenset[int] = REFUSED  # that the first answer may have
    may_reach: bool = False  # an engine may get the first request
    incomplete: bool = False  # the router can only wait for more, so that the attacker hangs up
    later: bytes = b""  # what follows once the first request is answered, if the connection is still there

    def __repr__(self) -> str:
        shown = self.data if len(self.data) < 2000 else self.data[:1500] + b" ... " + self.data[-500:]
        return f"{self.name}, {len(self.data)} bytes: {shown!r}"


class Draw:
    """What a generator makes its attacks of."""

    def __init__(self, ground: Ground, *, name: str, number: int, seed: int) -> None:
        self.random = random.Random(f"{seed} {name} {number}")
        self.ground = ground
        self.name = name
        self.request_id = f"{name}-{number}"
        self.number = number

    def attack(
        self,
        data: bytes,
        *,
        statuses: frozenset[int] = REFUSED,
        may_reach: bool = False,
        incomplete: bool = False,
    ) -> Attack:
        return Attack(self.name, data, self.request_id, statuses, may_reach, incomplete)

    def smuggling(self, data: bytes, *, statuses: frozenset[int] = REFUSED) -> Attack:
        """One whose end is in doubt, and a request behind it: at once, or when the first was answered."""
        at_once, later = (self.smuggled(), b"") if self.number % 2 else (b"", self.smuggled())
        return Attack(self.name, data + at_once, self.request_id, statuses, later=later)

    def harmless(self, data: bytes, *, statuses: frozenset[int] = ANY_ANSWER) -> Attack:
        """One whose framing is right, so that an engine may get it, if what it says is right too."""
        return self.attack(data, statuses=statuses, may_reach=True)

    # --- pieces ---

    def one_of(self, *choices: T) -> T:
        return self.random.choice(choices)

    def chat(self, **more: Any) -> bytes:
        messages = [{"role": "user", "content": f"attack {self.number}"}]
        return json.dumps({"model": self.ground.model, "messages": messages, **more}).encode()

    def request(
        self,
        *lines: bytes,
        body: bytes | None = None,
        method: bytes = b"POST",
        target: bytes = b"/v1/chat/completions",
        version: bytes = b"HTTP/1.1",
        host: bytes = b"host: localhost",
        key: bytes | None = None,
    ) -> bytes:
        """`lines`: headers beside those that it takes. `body`: with its length; None = what the lines say of it, and
        the caller puts behind it."""
        bearer = b"authorization: Bearer " + (self.ground.key.encode() if key is None else key)
        head = [b"%b %b %b" % (method, target, version), host, bearer, b"x-request-id: " + self.request_id.encode()]
        head += lines
        if body is not None:
            head.append(b"content-length: %d" % len(body))
        return CRLF.join(head) + CRLF + CRLF + (body or b"")

    def smuggled(self) -> bytes:
        """A request that would be answered, if it were taken for one."""
        body = self.chat(user="SMUGGLED")
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\n"
            b"x-request-id: smuggled-%d\r\ncontent-length: %d\r\n\r\n"
        )
        return head % (self.ground.key.encode(), self.number, len(body)) + body

    def chunked(self, body: bytes, *, pieces: int = 3) -> bytes:
        cuts = sorted(self.random.sample(range(1, len(body)), pieces - 1))
        parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"

    def junk(self, most: int) -> bytes:
        return self.random.randbytes(self.random.randint(1, most))

    def token(self, most: int = 20) -> bytes:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
        return "".join(self.random.choices(letters, k=self.random.randint(1, most))).encode()


Generator = Callable[[Draw], Attack]


def corpus(generator: Generator, *, ground: Ground, count: int, seed: int) -> Iterator[Attack]:
    for number in range(count):
        yield generator(Draw(ground, name=generator.__name__, number=number, seed=seed))
