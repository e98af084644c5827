"""A client's request on its way to a worker: who may answer it, where it is sent, and what happens when that fails.

The way back is `relay`'s.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from functools import cached_property

from routing.discovery.directory import AllFull, Directory, IndexLost, NoneReady, Refused, Settlement, UnknownModel
from routing.discovery.records import ServedModel, Target
from routing.discovery.sealing import SealBroken, Sealer
from routing.discovery.snapshot import Snapshot
from routing.router import errors, limits, relay
from routing.router.asgi import HOP_BY_HOP, Fields, Receive, Scope, Send, without
from routing.router.bodies import forms, payloads
from routing.router.bodies.surfaces import Surface
from routing.router.call import Call, Question
from routing.router.choice.balancer import RetryBudget
from routing.router.choice.selection import Place, Selection
from routing.router.choice.waiting import QueueFull, WaitedInVain, WaitingRoom
from routing.router.clients import admission, spending
from routing.router.clients.authentication import authenticate
from routing.router.config import Config
from routing.router.errors import ApiError
from routing.router.limits import ClientGone
from routing.router.passage import Beginner, Observer, Passage
from routing.router.wire.disconnects import WhileConnected
from routing.router.wire.upstream import (
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
_MOST_DEATHS = 2  # workers that closed the connection on one request: it may be what kills them
_KEYS_UNSEALED = 10_000
_CLIENT_LEFT = 499  # nginx's number for it

# The client's secrets are not the worker's to know; the length is set anew; an answer is not to be compressed, so
# that events can be put into a stream and left out of it.
_NOT_SENT_ON = HOP_BY_HOP | {
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


class _GoneWithIt(Unreachable):
    """The worker closed a kept connection on the request, and takes no other: the request may be what it died of."""


class Proxy:
    """`beginners` are told of every request when it comes, `observers`, once, when it is over."""

    def __init__(
        self,
        config: Config,
        *,
        directory: Directory,
        snapshot: Snapshot,
        selection: Selection,
        waiting_room: WaitingRoom,
        upstream: Upstream,
        sealer: Sealer,
        beginners: Iterable[Beginner] = (),
        observers: Iterable[Observer] = (),
    ) -> None:
        self._config = config
        self._directory = directory
        self._snapshot = snapshot
        self._selection = selection
        self._waiting_room = waiting_room
        self._upstream = upstream
        self._sealer = sealer
        self._beginners = tuple(beginners)
        self._observers = tuple(observers)
        self._retries = RetryBudget()
        self._bearers: dict[str, bytes] = {}
        self._session_header = config.session_header.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, surface: Surface) -> None:
        """Raises ApiError for whatever goes wrong before the answer has begun; ClientGone, OSError."""
        config = self._config
        passage = Passage(request_id=scope["state"]["request_id"].decode(), operation=surface.operation)
        for begin in self._beginners:
            begin(passage, scope)
        call: Call | None = None
        try:
            call = await self._accept(scope, receive, send, surface, passage)
            watched = None if surface.form else receive
            with WhileConnected(scope, watched, total_timeout=config.total_timeout, loop=self._loop) as connected:
                await self._serve(call)
            if connected.gone:
                passage.status = _CLIENT_LEFT
        except ApiError as error:
            passage.status, passage.error_code = error.status, error.code or error.type
            raise
        except TimeoutError:
            await self._break_off(call, passage, errors.upstream_too_slow("The answer took too long"))
        except UpstreamError as error:
            log.warning("%s broke off: %s", passage.instance_id, error)
            await self._break_off(call, passage, errors.upstream_failed("The model's worker broke off its answer"))
        except asyncio.CancelledError:  # the server does not wait any longer
            await self._break_off(call, passage, errors.stopping())
        except (ClientGone, OSError):
            passage.status = _CLIENT_LEFT
            raise
        except Exception:
            log.exception("request %s", passage.request_id)
            await self._break_off(call, passage, errors.our_fault())
        finally:
            self._conclude(call, passage)

    @cached_property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """Kept, since asking for it costs a system call before Python 3.12."""
        return asyncio.get_running_loop()

    # --- before an instance is chosen ---

    async def _accept(self, scope: Scope, receive: Receive, send: Send, surface: Surface, passage: Passage) -> Call:
        fields: Fields = scope["state"]["fields"]
        key = await authenticate(fields, self._directory)
        passage.key_id = key.key_id
        self._retries.earn()
        question = await self._question(scope, receive, surface)
        passage.request_bytes = question.size
        passage.streamed = question.streamed
        call = Call(surface=surface, headers=scope["headers"], send=send, passage=passage, key=key, question=question)
        call.chain = self._chain(call)
        call.affinity = self._affinity(call, fields.get(self._session_header))
        call.admission = admission.admission(key, question)
        call.more_headers.append((b"x-request-id", scope["state"]["request_id"]))
        return call

    async def _question(self, scope: Scope, receive: Receive, surface: Surface) -> Question:
        config = self._config
        if surface.form:
            return await forms.read(
                receive, scope["state"]["fields"], limit=config.max_upload_bytes, patience=config.body_timeout
            )
        body = await limits.read_body(scope, receive, limit=config.max_body_bytes, within=config.body_timeout)
        return payloads.read_json(body, surface)

    def _chain(self, call: Call) -> tuple[ServedModel, ...]:
        """The model that was asked for, and its fallbacks, as far as the key may call them."""
        asked = self._snapshot.named(call.question.model)
        if asked is None:
            # Perhaps so new that only Redis knows it: `take` says.
            asked = ServedModel(model_id=call.question.model, name="", context_length=0, created=0)
        if not admission.may_call(call.key, asked.model_id):
            raise errors.model_not_allowed(asked.model_id)
        fallbacks = [self._snapshot.named(model_id) for model_id in asked.fallbacks]
        return (asked, *(each for each in fallbacks if each and admission.may_call(call.key, each.model_id)))

    def _affinity(self, call: Call, session: bytes | None) -> bytes | None:
        if session is not None:
            return b"session:" + session
        if call.chain[0].routing == "prefix":
            return call.question.prefix()
        return None

    # --- choosing ---

    async def _serve(self, call: Call) -> None:
        """Try one instance, and others for as long as nothing was sent to the client and nothing can be done twice."""
        failure: ApiError | None = None
        deaths = 0
        for _ in range(1 + _MORE_ATTEMPTS):
            place = call.place = await self._take(call, failure)
            failed = await self._attempt(place, call)
            if failed is None:
                return
            call.place = None
            self._selection.give_back(place)
            failure = failed.error
            deaths += failed.died
            if deaths >= _MOST_DEATHS or not call.question.resendable:
                break
            if failed.engine_had_it and not self._retries.spend():
                break
            call.excluded += (place.target.instance_id,)
        assert failure is not None  # noqa: S101 - for the type checker
        raise failure

    async def _take(self, call: Call, failure: ApiError | None) -> Place:
        """A place on an instance of the first model of the chain that has one; if some are full, in the queue."""
        full: ServedModel | None = None
        # An instance that has been taken out is better than nothing, and worse than a fallback.
        for desperate in (True,) if len(call.chain) == 1 else (False, True):
            for model in call.chain:
                try:
                    queued = self._waiting_room.has(model.model_id)
                    return await self._take_of(model, call, queued=queued, desperate=desperate)
                except NoneReady:
                    continue
                except AllFull:
                    full = full or model
        if full is not None and failure is None:
            return await self._wait_for_place(full, call)
        raise failure or errors.none_ready(call.chain[0].model_id)

    async def _take_of(self, model: ServedModel, call: Call, *, queued: bool = False, desperate: bool = True) -> Place:
        """Raises NoneReady, AllFull, ApiError. `queued`: others wait for this model, and come first."""
        if queued:
            raise AllFull(model.model_id)
        began = time.perf_counter()
        try:
            place = await self._selection.take(
                model.model_id,
                wish=self._selection.wish(model, call.affinity, call.excluded, desperate=desperate),
                admission=call.admission if call.allowance is None else None,
            )
        except UnknownModel:
            raise errors.model_not_found(call.question.model) from None
        except IndexLost:
            raise errors.index_lost() from None
        except Refused as refused:
            raise admission.refusal(call.key, refused) from None
        finally:
            call.passage.selected += time.perf_counter() - began
        call.model = model
        call.allowance = call.allowance or place.allowance
        return place

    async def _wait_for_place(self, model: ServedModel, call: Call) -> Place:
        began = time.perf_counter()
        until = self._loop.time() + self._config.queue_timeout
        returning = False
        try:
            while True:
                await self._waiting_room.wait(model.model_id, call.key.key_id, until=until, returning=returning)
                try:
                    return await self._take_of(model, call)
                except AllFull:
                    returning = True
        except NoneReady:
            raise errors.none_ready(model.model_id) from None
        except QueueFull:
            raise errors.queue_full(model.model_id) from None
        except WaitedInVain:
            raise errors.waited_in_vain(model.model_id) from None
        finally:
            call.passage.queued += time.perf_counter() - began

    # --- one instance ---

    async def _attempt(self, place: Place, call: Call) -> relay.Failed | None:
        """Send the request to one instance and its answer to the client. Returns what went wrong if another instance
        may be tried; raises it if not."""
        target, passage = place.target, call.passage
        passage.model_id, passage.instance_id = place.model_id, target.instance_id
        passage.attempts += 1
        passage.sent_at = time.perf_counter()
        try:
            response = await self._open(self._request(place, call))
        except Unreachable as error:
            self._selection.failed(place, "unreachable", at_once=True)
            gone = isinstance(error, _GoneWithIt)
            unreachable = errors.upstream_failed("The model's worker could not be reached")
            return relay.Failed(unreachable, engine_had_it=gone, died=gone)
        except FirstByteTimeout:
            self._selection.failed(place, "first_byte_timeout")
            raise errors.upstream_too_slow("The model's worker did not answer in time") from None
        except (ClosedUnanswered, Broken) as error:
            log.warning("%s broke off before it answered: %s", target.instance_id, error)
            self._selection.failed(place, "closed_unanswered")
            return relay.Failed(errors.upstream_failed("The model's worker broke off before it answered"), died=True)
        try:
            failed = self._judge(response, place)
            if failed is None:
                await relay.relay(response, call)
            return failed
        finally:
            response.close()

    def _judge(self, response: UpstreamResponse, place: Place) -> relay.Failed | None:
        """What the answer's head says of the instance."""
        failed = relay.judge(response, place.target)
        if failed.counts if failed is not None else response.status >= 500:
            self._selection.failed(place, f"status_{response.status}")
        elif failed is None:
            self._selection.recovered(place.target)
        return failed

    async def _open(self, request: UpstreamRequest) -> UpstreamResponse:
        try:
            return await self._upstream.open(request)
        except ClosedUnanswered:
            pass
        # Both sides tidied up at once, which says nothing about the worker, unless it is there no more.
        try:
            return await self._upstream.open(request, fresh=True)
        except Unreachable as error:
            raise _GoneWithIt(str(error)) from error

    def _request(self, place: Place, call: Call) -> UpstreamRequest:
        surface, question, target, model = call.surface, call.question, place.target, call.model
        ask_usage = question.streamed and surface.usage_on_demand and not question.wants_usage
        # A server that takes "_" for "-" would read what we have refused or replaced.
        headers = [each for each in without(call.headers, _NOT_SENT_ON) if b"_" not in each[0]]
        headers.append((b"authorization", self._bearer(target)))
        headers.append((b"x-request-id", call.passage.request_id.encode()))
        if call.passage.trace is not None:
            headers = call.passage.trace.on(headers)
        return UpstreamRequest(
            ip=target.ip,
            port=target.port,
            path=surface.engine_path,
            headers=headers,
            body=question.body_for(place.model_id, ask_usage=ask_usage),
            first_byte_timeout=(model.first_byte_timeout or None) if model else None,
        )

    def _bearer(self, target: Target) -> bytes:
        known = self._bearers.get(target.api_key)
        if known is not None:
            return known
        try:
            bearer = b"Bearer " + self._sealer.unseal(target.api_key).encode()
        except SealBroken as error:
            log.error("%s", error)
            raise errors.upstream_failed("The router can't open the key of the model's worker") from None
        if len(self._bearers) >= _KEYS_UNSEALED:
            del self._bearers[next(iter(self._bearers))]
        self._bearers[target.api_key] = bearer
        return bearer

    # --- afterwards ---

    async def _break_off(self, call: Call | None, passage: Passage, error: ApiError) -> None:
        """The answer can't be finished."""
        passage.error_code = error.code or error.type
        if call is None or not call.started:
            passage.status = error.status
            raise error
        await relay.break_off(call, error)

    def _conclude(self, call: Call | None, passage: Passage) -> None:
        passage.ended_at = time.perf_counter()
        if call is not None:
            try:
                spending.reckon(call)
            finally:
                self._give_back(call)
        for observe in self._observers:
            observe(passage)

    def _give_back(self, call: Call) -> None:
        settlement = None
        if call.admission is not None and call.allowance is not None:
            settlement = Settlement(call.admission, tokens=spending.total(call), micros=call.passage.cost_micros)
        if call.place is not None:
            self._selection.give_back(call.place, settlement)
        elif settlement is not None:
            self._selection.settle(settlement)
