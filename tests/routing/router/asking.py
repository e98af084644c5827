"""Asks an endpoint as an ASGI server would: from which address, with which headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from routing.router.asgi import Message, Scope, Send


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


async def ask(
    endpoint: Callable[[Scope, Send], Awaitable[None]],
    path: str,
    *,
    query: str = "",
    peer: str = "127.0.0.1",
    headers: dict[str, str] | None = None,
) -> Answer:
    """Raises what the endpoint raises."""
    answer = Answer()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        answer.body += message.get("body", b"")

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "client": (peer, 50_000),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    await endpoint(scope, send)
    return answer
