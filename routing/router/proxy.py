"""A client's request on its way to a worker and the answer on its way back, byte by byte as it comes."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass

from routing.discovery.directory import Directory, IndexLost, NoneReady, UnknownModel
from routing.discovery.records import Target
from routing.discovery.sealing import SealBroken, Sealer
from routing.router import errors, limits
from routing.router.asgi import Headers, Receive, Scope, Send, header
from routing.router.authentication import authenticate
from routing.router.config import Config
from routing.router.disconnects import WhileConnected
from routing.router.errors import ApiError
from routing.router.selection import Selection
from routing.router.upstream import (
    Broken,
    ClosedUnanswered,
    FirstByteTimeout,
    Unreachable,
    Upstream,
    UpstreamError,
    UpstreamRequest,
    UpstreamResponse,
)

log = logging.getLogger(__name__)

_MORE_ATTEMPTS = 2  # on other instances
_KEYS_UNSEALED = 10_000
_LONGEST_MODEL_ID = 512

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# The client's secrets are not the worker's to know; the length is set anew; an answer is not to be compressed, so
# that an error event can be put into a stream.
_NOT_SENT_ON = _HOP_BY_HOP | {
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"cookie",
    b"host",
    b"content-length",
    b"expect",
    b"accept-encoding",
    b"x-request-id",
}
_NOT_SENT_BACK = _HOP_BY_HOP | {b"date", b"server", b"x-request-id", b"set-cookie"}


@dataclass(slots=True)
class _Answer:
    """How far the answer to the client has come."""

    started: bool = False
    is_events: bool = False
    at_event_end: bool = True


class Proxy:
    def __init__(
        self, config: Config, *, directory: Directory, selection: Selection, upstream: Upstream, sealer: Sealer
    ) -> None:
        self._config = config
        self._directory = directory
        self._selection = selection
        self._upstream = upstream
        self._sealer = sealer
        self._unsealed: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError for whatever goes wrong before the answer has begun; ClientGone."""
        headers: Headers = scope["headers"]
        await authenticate(headers, self._directory)
        config = self._config
        body = await limits.read_body(receive, headers, limit=config.max_body_bytes, within=config.body_timeout)
        model_id = _model_of(body)
        answer = _Answer()
        try:
            with WhileConnected(scope, receive, total_timeout=config.total_timeout):
                await self._serve(scope, send, body, model_id, answer)
        except TimeoutError:
            await _break_off(send, answer, errors.upstream_too_slow("The answer took too long"))
        except asyncio.CancelledError:  # the server does not wait any longer
            await _break_off(send, answer, errors.stopping())
        except UpstreamError as error:
            log.warning("%s broke off: %s", model_id, error)
            await _break_off(send, answer, errors.upstream_failed("The model's worker broke off its answer"))

    async def _serve(self, scope: Scope, send: Send, body: bytes, model_id: str, answer: _Answer) -> None:
        """Try one instance, and others for as long as nothing was sent to the client and nothing can be done twice."""
        excluded: list[str] = []
        failure: ApiError | None = None
        for _ in range(1 + _MORE_ATTEMPTS):
            target = await self._take(model_id, excluded, failure)
            try:
                failure = await self._attempt(target, scope, send, body, answer)
            finally:
                self._selection.give_back(target)
            if failure is None:
                return
            excluded.append(target.instance_id)
        assert failure is not None  # noqa: S101 - for the type checker
        raise failure

    async def _take(self, model_id: str, excluded: list[str], failure: ApiError | None) -> Target:
        try:
            return await self._selection.take(model_id, excluded=excluded)
        except UnknownModel:
            raise errors.model_not_found(model_id) from None
        except NoneReady:
            raise failure or errors.none_ready(model_id) from None
        except IndexLost:
            raise failure or errors.index_lost() from None

    async def _attempt(self, target: Target, scope: Scope, send: Send, body: bytes, answer: _Answer) -> ApiError | None:
        """Send the request to one instance and its answer to the client. Returns the error for the client if another
        instance may be tried; raises it if not."""
        request = UpstreamRequest(
            ip=target.ip,
            port=target.port,
            path=scope["path"].encode(),
            headers=self._headers_for(target, scope),
            body=body,
        )
        try:
            response = await self._open(request)
        except Unreachable as error:
            if self._selection.let_rest(target):
                log.warning("%s is unreachable: %s", target.instance_id, error)
            return errors.upstream_failed("The model's worker could not be reached")
        except ClosedUnanswered as error:
            log.warning("%s: %s", target.instance_id, error)
            return errors.upstream_failed("The model's worker closed the connection")
        except FirstByteTimeout:
            raise errors.upstream_too_slow("The model's worker did not answer in time") from None
        except Broken as error:
            log.warning("%s answered badly: %s", target.instance_id, error)
            raise errors.upstream_failed("The model's worker broke off before it answered") from None
        try:
            return await self._relay(response, target, send, answer)
        finally:
            response.close()

    async def _open(self, request: UpstreamRequest) -> UpstreamResponse:
        try:
            return await self._upstream.open(request)
        except ClosedUnanswered:
            # Both sides tidied up at once, which says nothing about the worker.
            return await self._upstream.open(request, fresh=True)

    async def _relay(self, response: UpstreamResponse, target: Target, send: Send, answer: _Answer) -> ApiError | None:
        if response.status == 502:
            return errors.upstream_failed("The model's worker failed")
        if response.status == 503:
            return errors.busy()
        if response.status == 401:
            log.error("%s refused our key: does its engine run with the key it was given?", target.instance_id)
            raise errors.upstream_failed("The model's worker did not accept the router's key")
        answer.is_events = (header(response.headers, b"content-type") or b"").startswith(b"text/event-stream")
        headers = _without(response.headers, _NOT_SENT_BACK)
        if answer.is_events:
            # It may end with an event of ours: a length would forbid that.
            headers = [each for each in headers if each[0] != b"content-length"]
        chunk = b"" if answer.is_events else await self._first_chunk(response)
        answer.started = True
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        while not response.ended:
            if chunk:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await response.read()
            answer.at_event_end = chunk.endswith((b"\n\n", b"\r\n\r\n")) or (answer.at_event_end and not chunk)
        await send({"type": "http.response.body", "body": chunk})
        return None

    async def _first_chunk(self, response: UpstreamResponse) -> bytes:
        """Of an answer in one piece, so that a worker that dies right after the head still gives a clean error."""
        try:
            return await response.read()
        except UpstreamError as error:
            raise errors.upstream_failed("The model's worker broke off its answer") from error

    def _headers_for(self, target: Target, scope: Scope) -> Headers:
        headers = _without(scope["headers"], _NOT_SENT_ON)
        headers.append((b"authorization", b"Bearer " + self._unseal(target.api_key).encode()))
        headers.append((b"x-request-id", scope["state"]["request_id"]))
        return headers

    def _unseal(self, sealed: str) -> str:
        known = self._unsealed.get(sealed)
        if known is not None:
            return known
        try:
            key = self._sealer.unseal(sealed)
        except SealBroken as error:
            log.error("%s", error)
            raise errors.upstream_failed("The router can't open the key of the model's worker") from None
        if len(self._unsealed) >= _KEYS_UNSEALED:
            del self._unsealed[next(iter(self._unsealed))]
        self._unsealed[sealed] = key
        return key


def _model_of(body: bytes) -> str:
    """Parsed, never searched for: the word "model" may stand inside a message. Raises ApiError."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise errors.bad_request("The request's body is not valid JSON") from None
    if not isinstance(request, dict):
        raise errors.bad_request("The request's body must be a JSON object")
    model_id = request.get("model")
    if not isinstance(model_id, str) or not model_id:
        raise errors.bad_request("'model' must be the id of a model, as /v1/models lists them", param="model")
    if len(model_id) > _LONGEST_MODEL_ID or not _is_text(model_id):
        raise errors.model_not_found(model_id[:_LONGEST_MODEL_ID])
    return model_id


def _is_text(name: str) -> bool:
    """JSON can spell half a character (a lone surrogate), which no encoding can write."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without(headers: Headers, unwanted: frozenset[bytes]) -> Headers:
    """The headers without these and without those that Connection names."""
    for name, value in headers:
        if name == b"connection":
            unwanted = unwanted | {token.strip().lower() for token in value.split(b",")}
    return [each for each in headers if each[0] not in unwanted]


async def _break_off(send: Send, answer: _Answer, error: ApiError) -> None:
    """The answer can't be finished. A stream of events ends with an error event and never with a [DONE]; any other
    answer is left incomplete, and the server closes the connection."""
    if not answer.started:
        raise error
    if answer.is_events:
        separator = b"" if answer.at_event_end else b"\n\n"
        await send({"type": "http.response.body", "body": separator + error.event()})
