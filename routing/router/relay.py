"""A worker's answer on its way back to the client, byte by byte as it comes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from routing.discovery.records import Target
from routing.router import errors
from routing.router.asgi import HOP_BY_HOP, header, without
from routing.router.bodies import dialects
from routing.router.bodies.metering import tap_for
from routing.router.call import Call
from routing.router.clients import admission
from routing.router.errors import ApiError
from routing.router.wire.upstream import UpstreamError, UpstreamResponse

log = logging.getLogger(__name__)

_NOT_SENT_BACK = HOP_BY_HOP | {b"date", b"server", b"x-request-id", b"set-cookie"}


@dataclass(frozen=True, slots=True)
class Failed:
    """An instance did not answer as it should, and another may be tried; `error` is for the client if none can."""

    error: ApiError
    engine_had_it: bool = True  # it may have begun: sending it again costs twice
    died: bool = False  # the connection was closed on it
    counts: bool = True  # against the instance, and not only its load


def judge(response: UpstreamResponse, target: Target) -> Failed | None:
    """Whether the answer is one for the client."""
    if response.status == 502:
        return Failed(errors.upstream_failed("The model's worker failed"))
    if response.status == 503:
        return Failed(errors.busy(), counts=False)
    if response.status == 401:
        log.error("%s refused our key: does its engine run with the key it was given?", target.instance_id)
        # It would answer at once for ever, and so be the least loaded of all.
        return Failed(errors.upstream_failed("The model's worker did not accept the router's key"), engine_had_it=False)
    return None


async def relay(response: UpstreamResponse, call: Call) -> None:
    """Raises UpstreamError when the answer breaks off, ApiError when it does before a byte was sent on."""
    if (header(response.headers, b"content-type") or b"").startswith(b"text/event-stream"):
        await _relay_events(response, call)
    else:
        await _relay_piece(response, call)


async def break_off(call: Call, error: ApiError) -> None:
    """A stream of events ends with an error event and never with a [DONE]; any other answer is left incomplete, and
    the server closes the connection."""
    if call.tap is not None and call.is_events:
        separator = b"" if call.tap.at_event_end else b"\n\n"
        await call.send({"type": "http.response.body", "body": separator + dialects.event(error, call.surface)})


async def _relay_events(response: UpstreamResponse, call: Call) -> None:
    passage, send = call.passage, call.send
    hides = call.surface.usage_on_demand and not call.question.wants_usage
    tap = call.tap = tap_for(call.surface, streamed=True, hide_usage=hides)
    call.is_events = True
    call.question.forget()
    # It may end with an event of ours, and lack one of the engine's: a length would forbid that.
    await _start(response, call, without_length=True)
    while chunk := await response.read():
        if not passage.chunks:
            passage.first_byte_at = time.perf_counter()
        passage.chunks += 1
        seen = tap.feed(chunk)
        if seen:
            passage.response_bytes += len(seen)
            await send({"type": "http.response.body", "body": seen, "more_body": True})
    await send({"type": "http.response.body", "body": tap.finish()})


async def _relay_piece(response: UpstreamResponse, call: Call) -> None:
    passage, send = call.passage, call.send
    tap = call.tap = tap_for(call.surface, streamed=False, hide_usage=False)
    try:
        chunk = await response.read()
    except UpstreamError as error:
        # A worker that dies right after the head still gives a clean error.
        raise errors.upstream_failed("The model's worker broke off its answer") from error
    passage.first_byte_at = time.perf_counter()
    await _start(response, call)
    while not response.ended:
        passage.chunks += 1
        passage.response_bytes += len(chunk)
        await send({"type": "http.response.body", "body": tap.feed(chunk), "more_body": True})
        chunk = await response.read()
    passage.chunks += 1
    passage.response_bytes += len(chunk)
    await send({"type": "http.response.body", "body": tap.feed(chunk) + tap.finish()})


async def _start(response: UpstreamResponse, call: Call, *, without_length: bool = False) -> None:
    headers = without(response.headers, _NOT_SENT_BACK)
    if without_length:
        headers = [each for each in headers if each[0] != b"content-length"]
    headers += call.more_headers
    if call.allowance is not None:
        headers += admission.headers(call.key, call.allowance)
    call.passage.status = response.status
    call.started = True
    await call.send({"type": "http.response.start", "status": response.status, "headers": headers})
