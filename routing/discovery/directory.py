"""The router's eye on the discovery index: asynchronous, over one connection; never imports Django.

Every answer comes from Redis while Redis has the whole index. If it has not (away, or flushed and not yet rebuilt),
the methods raise IndexLost, and the caller may go on with the `Snapshot`; nothing is ever called unknown then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import Any

from routing.discovery import keys, scripts, taking
from routing.discovery.link import Link, RedisAway, pack, script_call
from routing.discovery.records import Allowance, ClientKey, Heartbeat, ServedModel, Target
from routing.discovery.running import Running

SCRIPTS = (*scripts.FOR_ROUTER, *taking.FOR_ROUTER)  # what a router's `Link` is to load

_KEY_TRUSTED_FOR = 1.5  # seconds; a revoked key is refused within 2 s
_KEYS_KEPT = 10_000
_PACKED_KEPT = 20_000
_LAST_IS_0 = b"$1\r\n0\r\n"  # how a packed command ends whose last argument is 0
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
    of an instance of weight 1); and which it must not go to. `desperate`: one that has been taken out of routing for
    its failures is better than none."""

    preferred: tuple[str, ...] = ()
    bound: float = 0.0
    excluded: tuple[str, ...] = ()
    desperate: bool = True


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


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an admitted request has really taken."""

    admission: Admission
    tokens: int = 0
    micros: int = 0


class _Packed:
    """Commands that differ in one word, packed once for each."""

    def __init__(self, make: Callable[[str], bytes]) -> None:
        self._make = make
        self._made: dict[str, bytes] = {}

    def of(self, word: str) -> bytes:
        packed = self._made.get(word)
        if packed is None:
            if len(self._made) >= _PACKED_KEPT:
                self._made.clear()
            packed = self._made[word] = self._make(word)
        return packed


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
        self._running = Running()
        self._takes = _Packed(lambda model_id: self._pack_take(model_id, ANY, None, ""))
        self._limited_takes: dict[tuple[str, tuple[str, ...]], tuple[ClientKey, bytes]] = {}
        self._releases = _Packed(lambda each: pack(script_call(taking.RELEASE, [keys.instance(each)])))

    async def take(
        self, model_id: str, *, wish: Wish = ANY, admission: Admission | None = None
    ) -> tuple[Target, Allowance | None]:
        """Choose an instance and count the request there, and against the key's limits. The target is to be given back
        with `release`, the admission with `settle`; what raises has counted nothing.

        Raises UnknownModel, NoneReady, AllFull, Refused, IndexLost. If the caller is cancelled, nothing stays counted.
        """
        if admission is None or not admission.key.concurrency:
            return await self._take(model_id, wish, admission)
        self._running.begin(admission.key.key_id)
        try:
            return await self._take(model_id, wish, admission)
        except BaseException:
            self._running.end(admission.key.key_id)
            raise

    async def _take(self, model_id: str, wish: Wish, admission: Admission | None) -> tuple[Target, Allowance | None]:
        cursor, full = "", False
        for _ in range(_PAGES_WALKED):
            answer = await self._ask(model_id, wish, admission, cursor)
            match answer[0]:
                case "taken":
                    return _target(answer), None if admission is None else Allowance(*answer[7:11])
                case "walk":
                    cursor, full = answer[1], full or answer[2] == 1
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
        raise AllFull(model_id) if full else NoneReady(model_id)

    def release(self, target: Target) -> None:
        """The request is over. Waits for nothing; with Redis away the worker's next heartbeat sets the load right."""
        if target.counted:
            self._post(self._releases.of(target.instance_id))

    def settle(self, settlement: Settlement) -> None:
        """Waits for nothing; with Redis away, the limits forget it, and the budget until the control plane has counted
        the usage."""
        self._end(settlement.admission)
        self._post(pack(script_call(taking.SETTLE, settlement.admission.names, *self._settle(settlement))))

    def release_and_settle(self, target: Target, settlement: Settlement) -> None:
        """Both at once, for half the price."""
        if target.counted:
            self._end(settlement.admission)
            self._post_release_and_settle(target, settlement)
        else:
            self.settle(settlement)

    def correct_running(self) -> None:
        """Tell Redis how many requests of each key there really are; see `running`."""
        if not self._link.connected:
            return
        with contextlib.suppress(RedisAway):
            for key_id, count in self._running.told():
                name = keys.running(key_id)
                if count:
                    self._link.post("HSET", name, self._router_id, count)
                    self._link.post("EXPIRE", name, keys.RUNNING_TTL)
                else:
                    self._link.post("HDEL", name, self._router_id)

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

    async def _ask(self, model_id: str, wish: Wish, admission: Admission | None, cursor: str) -> list[Any]:
        give_back = partial(self._give_back_unwanted, admission)
        try:
            asked = self._link.command_packed(self._packed(model_id, wish, admission, cursor), unwanted=give_back)
            answer: list[Any] = await asked
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        except asyncio.CancelledError:
            if asked.done() and not asked.cancelled() and asked.exception() is None:
                give_back(asked.result())  # it came at the very moment when the caller was cancelled
            raise
        return answer

    def _packed(self, model_id: str, wish: Wish, admission: Admission | None, cursor: str) -> bytes:
        """Packing costs more than sending, and nearly all requests of a key for a model ask the same."""
        if wish is not ANY or cursor:
            return self._pack_take(model_id, wish, admission, cursor)
        if admission is None:
            return self._takes.of(model_id)
        known = self._limited_takes.get((model_id, admission.names))
        if known is None or known[0] is not admission.key:
            packed = self._pack_take(model_id, ANY, replace(admission, tokens=0), "")
            known = (admission.key, packed.removesuffix(_LAST_IS_0))
            if len(self._limited_takes) >= _PACKED_KEPT:
                self._limited_takes.clear()
            self._limited_takes[model_id, admission.names] = known
        tokens = b"%d" % admission.tokens
        return known[1] + b"$%d\r\n%b\r\n" % (len(tokens), tokens)

    def _pack_take(self, model_id: str, wish: Wish, admission: Admission | None, cursor: str) -> bytes:
        touched = [keys.model_instances(model_id), keys.EPOCH, keys.MODELS]
        arguments: list[str | int | float] = [
            model_id,
            self._stale_after,
            keys.INSTANCE_PREFIX,
            cursor,
            wish.bound,
            len(wish.preferred),
            len(wish.excluded),
            int(wish.desperate),
            *wish.preferred,
            *wish.excluded,
        ]
        if admission is not None:
            touched += admission.names
            arguments += self._limits(admission)
        return pack(script_call(taking.TAKE, touched, *arguments))

    def _limits(self, admission: Admission) -> tuple[str | int, ...]:
        key = admission.key
        return (
            key.requests_per_minute,
            key.tokens_per_minute,
            key.concurrency,
            key.monthly_tokens,
            key.monthly_micros,
            self._router_id,
            keys.ROUTER_PREFIX,
            keys.LIMITS_TTL,
            keys.RUNNING_TTL,
            admission.tokens,
        )

    def _settle(self, settlement: Settlement) -> tuple[str | int, ...]:
        admission = settlement.admission
        key = admission.key
        return (
            key.tokens_per_minute,
            int(key.concurrency > 0),
            self._router_id,
            int(key.monthly_tokens > 0 or key.monthly_micros > 0),
            keys.SPENT_TTL,
            admission.tokens,
            settlement.tokens,
            settlement.micros,
        )

    def _give_back_unwanted(self, admission: Admission | None, answer: Sequence[Any]) -> None:
        """The client left while we were choosing: Redis may have counted its request all the same."""
        if answer[0] != "taken":
            return
        target = _target(answer)
        if admission is None:
            self.release(target)
        else:
            self._post_release_and_settle(target, Settlement(admission))

    def _end(self, admission: Admission) -> None:
        if admission.key.concurrency:
            self._running.end(admission.key.key_id)

    def _post_release_and_settle(self, target: Target, settlement: Settlement) -> None:
        touched = (keys.instance(target.instance_id), *settlement.admission.names)
        self._post(pack(script_call(taking.RELEASE_AND_SETTLE, touched, *self._settle(settlement))))

    def _post(self, packed: bytes) -> None:
        with contextlib.suppress(RedisAway):
            self._link.post_packed(packed)

    async def _find_key(self, sha256: str) -> ClientKey | None:
        try:
            outcome, *fields = await self._link.run(scripts.FIND_KEY, [keys.api_key(sha256), keys.EPOCH])
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        if outcome == "lost":
            raise IndexLost("the index is not rebuilt yet")
        _, before = self._keys.pop(sha256, (0.0, None))
        if outcome == "unknown":
            return None
        found = ClientKey.from_hash(dict(zip(fields[::2], fields[1::2], strict=True)))
        if before is not None and before == found:
            found = before  # the same object, for as long as it is the same key
        self._keys[sha256] = (time.monotonic(), found)
        if len(self._keys) > _KEYS_KEPT:
            del self._keys[next(iter(self._keys))]
        return found


def _target(answer: Sequence[Any]) -> Target:
    _, instance_id, ip, port, api_key, ailing = answer[:6]
    return Target(instance_id=instance_id, ip=ip, port=int(port), api_key=api_key, counted=True, ailing=ailing == "1")
