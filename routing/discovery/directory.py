"""The router's eye on the discovery index: asynchronous, over one connection; never imports Django.

Every answer comes from Redis while Redis has the whole index. If it has not (away, or flushed and not yet rebuilt),
the methods raise IndexLost, and the caller may go on with the `Snapshot`; nothing is ever called unknown then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from enum import Enum
from typing import Any

from routing.discovery import keys, scripts
from routing.discovery.link import Link, RedisAway
from routing.discovery.records import ClientKey, Heartbeat, ServedModel, Target

_KEY_TRUSTED_FOR = 1.5  # seconds; a revoked key is refused within 2 s
_KEYS_KEPT = 10_000
_PAGES_WALKED = 100


class IndexLost(Exception):
    """Redis is away, or was flushed and is not rebuilt yet: use the snapshot, or ask the client to try again."""


class UnknownModel(Exception):
    """The catalogue does not have this model: refuse with 404."""


class NoneReady(Exception):
    """The model is known, but no instance takes requests for it now: 503 and Retry-After."""


class Heard(Enum):
    """What became of a heartbeat."""

    HEARD = "heard"
    WRONG_TOKEN = "token"  # noqa: S105 - no password: the token is not this instance's
    WRONG_ADDRESS = "address"  # it does not come from this instance's address
    UNKNOWN = "unknown"  # the index is whole and has no such instance
    LOST = "lost"  # the index is not whole: nothing can be said; try again


class Directory:
    """`stale_after`: seconds of silence after which an instance gets nothing; `snapshot_age`: how long, seconds, a
    client key that was good goes on being good while Redis can't be asked."""

    def __init__(self, link: Link, *, stale_after: float, snapshot_age: float) -> None:
        self._link = link
        self._stale_after = stale_after
        self._snapshot_age = snapshot_age
        self._keys: dict[str, tuple[float, ClientKey]] = {}

    async def pick(self, model_id: str, *, excluded: Sequence[str] = ()) -> Target:
        """Choose a lightly loaded instance and count the request there. To be given back with `release`.

        Raises UnknownModel, NoneReady, IndexLost. If the caller is cancelled, what was taken is given back.
        """
        cursor = ""
        for _ in range(_PAGES_WALKED):
            answer = await self._pick_once(model_id, excluded, cursor)
            match answer[0]:
                case "taken":
                    return Target.from_answer(answer[1:], counted=True)
                case "walk":
                    cursor = answer[1]
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
            with contextlib.suppress(RedisAway):
                self._link.run(scripts.RELEASE, [keys.instance(target.instance_id)])

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

    async def _pick_once(self, model_id: str, excluded: Sequence[str], cursor: str) -> list[str]:
        try:
            asked = self._link.run(
                scripts.PICK,
                [keys.model_instances(model_id), keys.EPOCH, keys.MODELS],
                model_id,
                self._stale_after,
                keys.INSTANCE_PREFIX,
                cursor,
                *excluded,
            )
            answer: list[str] = await asyncio.shield(asked)
        except RedisAway as error:
            raise IndexLost(str(error)) from error
        except asyncio.CancelledError:
            asked.add_done_callback(self._release_unwanted)
            raise
        return answer

    def _release_unwanted(self, asked: asyncio.Future[Any]) -> None:
        """The client left while we were choosing: Redis may have counted its request all the same."""
        if asked.cancelled() or asked.exception() is not None:
            return
        answer = asked.result()
        if answer[0] == "taken":
            self.release(Target.from_answer(answer[1:], counted=True))

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
