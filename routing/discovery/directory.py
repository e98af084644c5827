"""The router's eye on the discovery index: asynchronous, over one connection; never imports Django.

Every answer comes from Redis while Redis has the whole index. If it has not (away, or flushed and not yet rebuilt),
the methods raise IndexLost, and the caller may go on with the `Snapshot`; nothing is ever called unknown then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any

from routing.discovery import keys, scripts, taking
from routing.discovery.link import Link, RedisAway
from routing.discovery.records import Allowance, ClientKey, Heartbeat, ServedModel, Target
from routing.discovery.scripts import Script

SCRIPTS = (*scripts.FOR_ROUTER, *taking.FOR_ROUTER)  # what a router's `Link` is to load

_KEY_TRUSTED_FOR = 1.5  # seconds; a revoked key is refused within 2 s
_KEYS_KEPT = 10_000
_PAGES_WALKED = 100


class IndexLost(Exception):
    """Redis is away, or was flushed and is not rebuilt yet: use the snapshot, or ask the client to try again."""


class UnknownModel(Exception):
    """The catalogue does not have this model: refuse with 404."""


class NoneReady(Exception):
    """The model is known, but no instance takes requests for it now: a fallback, or 503 and Retry-After."""


class AllFull(Exception):
    """There are instances, and each has as many requests as it may have: wait in the queue."""


class Refused(Exception):
    """The key has used up what it may. `what`: "requests" | "tokens" (a minute) | "concurrency" | "budget"."""

    def __init__(self, what: str, *, retry_after_ms: int, allowance: Allowance) -> None:
        super().__init__(what)
        self.what = what
        self.retry_after_ms = retry_after_ms
        self.allowance = allowance


@dataclass(frozen=True, slots=True)
class Wish:
    """Which instances a request would rather go to, the first first, each while its load is at most `bound` (requests
    of an instance of weight 1); and which it must not go to."""

    preferred: tuple[str, ...] = ()
    bound: float = 0.0
    excluded: tuple[str, ...] = ()


ANY = Wish()


@dataclass(frozen=True, slots=True)
class Admission:
    """A request of a key with limits, to be counted when an instance is taken for it."""

    key: ClientKey
    tokens: int  # an estimate of what it will take; the rest is settled afterwards
    month: str  # "2026-11"
    names: tuple[str, str, str] = field(init=False)  # in Redis, of what is counted

    def __post_init__(self) -> None:
        key_id = self.key.key_id
        names = (keys.limits(key_id), keys.running(key_id), keys.spent(key_id, self.month))
        object.__setattr__(self, "names", names)


class Heard(Enum):
    """What became of a heartbeat."""

    HEARD = "heard"
    WRONG_TOKEN = "token"  # noqa: S105 - no password: the token is not this instance's
    WRONG_ADDRESS = "address"  # it does not come from this instance's address
    UNKNOWN = "unknown"  # the index is whole and has no such instance
    LOST = "lost"  # the index is not whole: nothing can be said; try again


class Directory:
    """`router_id`: under which this router's requests are counted; `stale_after`: seconds of silence after which an
    instance gets nothing; `snapshot_age`: how long, seconds, a client key that was good goes on being good while Redis
    can't be asked."""

    def __init__(self, link: Link, *, router_id: str, stale_after: float, snapshot_age: float) -> None:
        self._link = link
        self._router_id = router_id
        self._stale_after = stale_after
        self._snapshot_age = snapshot_age
        self._keys: dict[str, tuple[float, ClientKey]] = {}

    async def take(
        self, model_id: str, *, wish: Wish = ANY, admission: Admission | None = None
    ) -> tuple[Target, Allowance | None]:
        """Choose an instance and count the request there, and against the key's limits. The target is to be given back
        with `release`, the admission with `settle`; what raises has counted nothing.

        Raises UnknownModel, NoneReady, AllFull, Refused, IndexLost. If the caller is cancelled, nothing stays counted.
        """
        cursor = ""
        for _ in range(_PAGES_WALKED):
            answer = await self._take_once(model_id, wish, admission, cursor)
            match answer[0]:
                case "taken":
                    return _target(answer), None if admission is None else Allowance(*answer[7:11])
                case "walk":
                    cursor = answer[1]
                case "full":
                    raise AllFull(model_id)
                case "refused":
                    raise Refused(answer[1], retry_after_ms=answer[2], allowance=Allowance(*answer[3:7]))
                case "unknown":
                    raise UnknownModel(model_id)
                case "none":
                    break
                case _:
                    raise IndexLost("the index is not rebuilt yet")
        raise NoneReady(model_id)

    def release(self, target: Target) -> None:
        """The request is over. Waits for nothing; with Redis away the worker's next heartbeat sets the load right."""
        if target.counted:
            self._post(taking.RELEASE, [keys.instance(target.instance_id)])

    def settle(self, admission: Admission, *, tokens: int, micros: int) -> None:
        """What the request really took. Waits for nothing; with Redis away, the limits forget it, and the budget until
        the control plane has counted the usage."""
        key = admission.key
        self._post(
            taking.SETTLE,
            admission.names,
            key.tokens_per_minute,
            admission.tokens,
            tokens,
            int(key.concurrency > 0),
            self._router_id,
            int(key.monthly_tokens > 0 or key.monthly_micros > 0),
            micros,
            keys.SPENT_TTL,
        )

    async def failed(self, target: Target, *, at_once: bool) -> float:
        """It did not answer as it should; `at_once`: take it out of routing for that alone. Returns for how many
        seconds it has been taken out by this call; 0 = not. Raises IndexLost."""
        try:
            out_for = await self._link.run(taking.FAILED, [keys.instance(target.instance_id)], int(at_once))
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        return float(out_for) / 1000

    def recovered(self, target: Target) -> None:
        """It failed lately, and now it has answered. Waits for nothing."""
        with contextlib.suppress(RedisAway):
            self._link.post("HDEL", keys.instance(target.instance_id), *taking.AILMENTS)

    async def heartbeat(self, beat: Heartbeat, *, token_sha256: str, address: str) -> tuple[Heard, str]:
        """Write down what a worker says of itself, if token and canonical address are the instance's own; its load
        becomes the instance's. Returns the outcome and, if heard, the instance's status."""
        try:
            outcome, status = await self._link.run(
                scripts.HEARTBEAT,
                [keys.instance(beat.instance_id), keys.EPOCH, keys.REFUSALS],
                beat.instance_id,
                token_sha256,
                address,
                keys.REFUSALS_KEPT,
                keys.REFUSALS_TTL,
                keys.INSTANCE_TTL,
                int(beat.ready),
                beat.load,
                beat.detail,
                beat.interruption,
            )
        except RedisAway:
            return Heard.LOST, ""
        return Heard(outcome), status

    async def client_key(self, sha256: str) -> ClientKey | None:
        """The key's record; None if there is no such key. Raises IndexLost. Expiry is the caller's to judge."""
        checked_at, known = self._keys.get(sha256, (0.0, None))
        now = time.monotonic()
        if known is not None and now - checked_at < _KEY_TRUSTED_FOR:
            return known
        try:
            return await self._find_key(sha256)
        except IndexLost:
            if known is not None and now - checked_at <= self._snapshot_age:
                return known
            raise

    async def served_models(self) -> list[ServedModel]:
        """The models that at least one instance takes requests for now. Raises IndexLost."""
        try:
            state, *served = await self._link.run(
                scripts.SERVED_MODELS,
                [keys.MODELS, keys.EPOCH],
                self._stale_after,
                keys.INSTANCE_PREFIX,
                keys.MODEL_INSTANCES_PREFIX,
                keys.MODEL_INSTANCES_SUFFIX,
            )
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        if state != "whole":
            raise IndexLost("the index is not rebuilt yet")
        return [ServedModel.from_json(raw) for raw in served]

    async def _take_once(self, model_id: str, wish: Wish, admission: Admission | None, cursor: str) -> list[Any]:
        touched = [keys.model_instances(model_id), keys.EPOCH, keys.MODELS]
        arguments: list[str | int | float] = [
            model_id,
            self._stale_after,
            keys.INSTANCE_PREFIX,
            cursor,
            wish.bound,
            len(wish.preferred),
            len(wish.excluded),
            *wish.preferred,
            *wish.excluded,
        ]
        if admission is not None:
            touched += admission.names
            arguments += self._limits(admission)
        give_back = partial(self._give_back_unwanted, admission)
        try:
            asked = self._link.run(taking.TAKE, touched, *arguments, unwanted=give_back)
            answer: list[Any] = await asked
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled() and asked.exception() is None:
                give_back(asked.result())  # it came at the very moment when the caller was cancelled
            raise
        return answer

    def _limits(self, admission: Admission) -> tuple[str | int, ...]:
        key = admission.key
        return (
            key.requests_per_minute,
            key.tokens_per_minute,
            key.concurrency,
            key.monthly_tokens,
            key.monthly_micros,
            admission.tokens,
            self._router_id,
            keys.ROUTER_PREFIX,
            keys.LIMITS_TTL,
            keys.RUNNING_TTL,
        )

    def _give_back_unwanted(self, admission: Admission | None, answer: Sequence[Any]) -> None:
        """The client left while we were choosing: Redis may have counted its request all the same."""
        if answer[0] != "taken":
            return
        self.release(_target(answer))
        if admission is not None:
            self.settle(admission, tokens=0, micros=0)

    def _post(self, script: Script, touched: Sequence[str], *arguments: str | int) -> None:
        with contextlib.suppress(RedisAway):
            self._link.post("EVALSHA", script.sha, len(touched), *touched, *arguments)

    async def _find_key(self, sha256: str) -> ClientKey | None:
        try:
            outcome, *fields = await self._link.run(scripts.FIND_KEY, [keys.api_key(sha256), keys.EPOCH])
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        if outcome == "lost":
            raise IndexLost("the index is not rebuilt yet")
        self._keys.pop(sha256, None)
        if outcome == "unknown":
            return None
        found = ClientKey.from_hash(dict(zip(fields[::2], fields[1::2], strict=True)))
        self._keys[sha256] = (time.monotonic(), found)
        if len(self._keys) > _KEYS_KEPT:
            del self._keys[next(iter(self._keys))]
        return found


def _target(answer: Sequence[Any]) -> Target:
    _, instance_id, ip, port, api_key, ailing = answer[:6]
    return Target(instance_id=instance_id, ip=ip, port=int(port), api_key=api_key, counted=True, ailing=ailing == "1")
