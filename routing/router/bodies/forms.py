"""A request whose body is a form (an audio file to transcribe): read until it has named its model, then passed on as it
comes, without ever being whole in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from routing.router import errors
from routing.router.asgi import Fields, Receive
from routing.router.bodies.payloads import FormReader
from routing.router.limits import ClientGone
from routing.router.wire.upstream import StreamedBody

_SLOWEST = 20_000  # bytes a second


class _Arrival:
    """The chunks of a body, counted while they come: `limit` bytes in all, within `patience` seconds and one more for
    each _SLOWEST bytes that have come: a large form may take its time, and who sends a byte now and then may not."""

    def __init__(self, receive: Receive, *, limit: int, patience: float) -> None:
        self._receive = receive
        self._limit = limit
        self._until = asyncio.get_running_loop().time() + patience
        self._size = 0
        self.ended = False

    async def next(self) -> bytes:
        """b"" at the end. Raises ApiError, ClientGone."""
        if self.ended:
            return b""
        try:
            async with asyncio.timeout_at(self._until + self._size / _SLOWEST):
                message = await self._receive()
        except TimeoutError:
            raise errors.body_too_slow() from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        self._size += len(chunk)
        if self._size > self._limit:
            raise errors.body_too_large(self._limit)
        self.ended = not message.get("more_body", False)
        return chunk


@dataclass(slots=True, eq=False)
class FormQuestion:
    """See `call.Question`. The part up to the model's name is held, so that an instance that can't be reached costs
    nothing; what follows can be sent once."""

    model: str
    streamed: bool
    length: int | None
    held: bytes
    span: tuple[int, int]  # of the model's name in what is held
    arrival: _Arrival
    reader: FormReader  # a form that names a second model, or breaks off, is refused however late that shows
    resendable: bool = True  # until more than that has been sent
    wants_usage: bool = True  # nothing is to be added to a form
    token_estimate: int = 0
    prompt_estimate: int = 0

    @property
    def size(self) -> int:
        return self.length or 0

    def forget(self) -> None:
        self.held = b""

    def prefix(self) -> bytes | None:
        return None

    def body_for(self, model_id: str, *, ask_usage: bool) -> StreamedBody:
        start, end = self.span
        named = model_id.encode()
        held = self.held[:start] + named + self.held[end:]
        length = None if self.length is None else self.length + len(named) - (end - start)
        return StreamedBody(chunks=self._chunks(held), length=length)

    async def _chunks(self, held: bytes) -> AsyncIterator[bytes]:
        yield held
        while not self.arrival.ended:
            self.resendable = False
            chunk = await self.arrival.next()
            self.reader.feed(chunk)
            if self.arrival.ended:
                self.reader.finish()
            yield chunk


async def read(receive: Receive, fields: Fields, *, limit: int, patience: float) -> FormQuestion:
    """Raises ApiError, ClientGone."""
    declared = fields.get(b"content-length")
    length = None if declared is None else int(declared)
    if length is not None and length > limit:
        raise errors.body_too_large(limit)
    reader = FormReader(fields.get(b"content-type", b""))
    arrival = _Arrival(receive, limit=limit, patience=patience)
    held = bytearray()
    while reader.model is None and not arrival.ended:
        chunk = await arrival.next()
        held += chunk
        reader.feed(chunk)
    if arrival.ended:
        reader.finish()
    if reader.model is None or reader.model_span is None:
        raise errors.bad_request("The form has no field 'model'", param="model")
    return FormQuestion(
        model=reader.model,
        streamed=reader.streamed,
        length=length,
        held=bytes(held),
        span=reader.model_span,
        arrival=arrival,
        reader=reader,
        token_estimate=reader.token_estimate,
    )
