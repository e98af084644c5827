"""The control plane's pen: makes Redis say what Postgres says. Synchronous; never imports Django.

It writes address, status and secrets' seals, never what routers and workers write (`current_load`, `worker_load`,
`last_heartbeat`, `ready`, `detail`, `interruption`), except after a flush, when `rebuild` seeds the last known
heartbeats.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import redis

from routing.discovery import keys as names
from routing.discovery import scripts, spending
from routing.discovery.records import ClientKey, Endpoint, Pulse, Refusal, ServedModel
from routing.discovery.spending import Spent

ROUTED_STATUS = "READY"

# Statuses only go forward, so the order tells a late message from news (see fleet.states for what they mean).
_RANK = {"PROVISIONING": 0, "BOOTING": 1, "READY": 2, "DRAINING": 3, "FAILED": 3, "TERMINATED": 4}

_CHUNK = 100  # instances or keys a script: about a millisecond of Redis
_PULSE_FIELDS = ("last_heartbeat", "ready", "worker_load", "current_load", "detail", "interruption")

_PULSE_CHUNK = 1000

T = TypeVar("T")


class Publisher:
    """Writes the discovery index. Every method may raise `redis.RedisError`: then nothing is promised, and the next
    `rebuild` mends it.

    `client` is a `redis.Redis` with `decode_responses=True` and time-outs.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._redis: Any = client  # redis-py types its answers as "now or awaitable"

    def publish(self, endpoint: Endpoint) -> None:
        """Write one instance; it is routed while its status is READY.

        A publish that comes late never goes back: an earlier status, or an instance withdrawn meanwhile, is ignored.
        """
        self._publish([endpoint], as_of=None, heartbeats={})

    def withdraw(self, instance_id: str, model_id: str) -> None:
        """Forget an instance for good; only a rebuild, which reads the truth, may bring it back."""
        touched = [names.WITHDRAWN, names.instance(instance_id), names.model_instances(model_id)]
        self._run(scripts.WITHDRAW, touched, [instance_id, names.WITHDRAWN_TTL])

    def publish_models(self, models: Sequence[ServedModel]) -> None:
        """Replace the list of models that can be asked for."""
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.delete(names.MODELS)
            if models:
                pipeline.hset(names.MODELS, mapping={model.model_id: model.to_json() for model in models})
            pipeline.execute()

    def publish_key(self, key: ClientKey) -> None:
        self._publish_keys([key], as_of=None)

    def revoke_key(self, sha256: str) -> None:
        self._run(scripts.REVOKE_KEY, [names.WITHDRAWN, names.api_key(sha256)], [names.WITHDRAWN_TTL])

    def seed_spending(self, spent: Iterable[Spent]) -> None:
        """Raise what keys have spent to what Postgres knows of: after a flush the routers count from 0."""
        for chunk in _chunks(spent):
            touched = [names.spent(one.key_id, one.month) for one in chunk]
            values = [amount for one in chunk for amount in (one.tokens, one.micros)]
            self._run(spending.RAISE, touched, [names.SPENT_TTL, *values])

    def clock(self) -> float:
        """Redis' time, seconds since the epoch: take it before reading the truth for `rebuild`."""
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)

    def rebuild(
        self,
        *,
        endpoints: Sequence[Endpoint],
        models: Sequence[ServedModel],
        keys: Sequence[ClientKey],
        heartbeats: Mapping[str, float],
        now: datetime,
        as_of: float | None = None,
    ) -> None:
        """Make the index equal to the truth without a gap in routing, and remove what the truth does not know.

        Load and heartbeats stay as they are; where a hash has no heartbeat (Redis was flushed), the one in
        `heartbeats` (instance id -> seconds since the epoch by Redis' clock) is taken, as that of a healthy worker.
        `as_of`: `clock()` from before the truth was read; what was published or withdrawn since then stands.
        `now` becomes the epoch if there is none.
        """
        since = int((self.clock() if as_of is None else as_of) * 1e6)
        token = self._begin_rebuild()
        self.publish_models(models)
        self._publish_keys(keys, as_of=since)
        self._publish(endpoints, as_of=since, heartbeats=heartbeats)
        self._remove_strangers(endpoints, keys, as_of=since)
        self._finish_rebuild(token, now)

    def epoch(self) -> datetime | None:
        """When the index was built. None: Redis was flushed, or was never written; rebuild."""
        raw = self._redis.get(names.EPOCH)
        return None if raw is None else datetime.fromisoformat(raw)

    def pulses(self, instance_ids: Iterable[str]) -> dict[str, Pulse]:
        """What was heard of these instances, by id; an instance that was never heard is left out."""
        found: dict[str, Pulse] = {}
        for chunk in _chunks(instance_ids, size=_PULSE_CHUNK):
            with self._redis.pipeline(transaction=False) as pipeline:
                for instance_id in chunk:
                    pipeline.hmget(names.instance(instance_id), _PULSE_FIELDS)
                for instance_id, raw in zip(chunk, pipeline.execute(), strict=True):
                    if raw[0] is not None:
                        found[instance_id] = _pulse(instance_id, raw)
        return found

    def take_refusals(self) -> list[Refusal]:
        """Heartbeats that the routers refused. The same ones again, until they are forgotten."""
        taken = self._run(scripts.TAKE_REFUSALS, [names.REFUSALS, names.REFUSALS_TAKEN], [])
        return [Refusal.from_field(*pair) for pair in zip(taken[::2], taken[1::2], strict=True)]

    def forget_refusals(self, written_down: Iterable[Refusal]) -> None:
        pairs = _flat({refusal.field: refusal.value for refusal in written_down})
        self._run(scripts.FORGET_REFUSALS, [names.REFUSALS_TAKEN], list(pairs))

    def routers_alive_since(self) -> datetime | None:
        """When the router that has been up longest was started. None: no router is alive."""
        router_ids = sorted(self._redis.smembers(names.ROUTERS))
        if not router_ids:
            return None
        started = dict(zip(router_ids, self._redis.mget([names.router(each) for each in router_ids]), strict=True))
        gone = [router_id for router_id, at in started.items() if at is None]
        if gone:
            self._redis.srem(names.ROUTERS, *gone)
        return min((datetime.fromisoformat(at) for at in started.values() if at is not None), default=None)

    def _publish(self, endpoints: Sequence[Endpoint], *, as_of: int | None, heartbeats: Mapping[str, float]) -> None:
        for chunk in _chunks(endpoints):
            touched: list[str] = [names.WITHDRAWN]
            values: list[str | int | float] = [
                "" if as_of is None else as_of,
                names.INSTANCE_TTL,
                len(chunk[0].to_hash()),
            ]
            for endpoint in chunk:
                touched += [names.instance(endpoint.instance_id), names.model_instances(endpoint.model_id)]
                values += [
                    endpoint.instance_id,
                    int(endpoint.status == ROUTED_STATUS),
                    _RANK[endpoint.status],
                    heartbeats.get(endpoint.instance_id, ""),
                    *_flat(endpoint.to_hash()),
                ]
            self._run(scripts.PUBLISH, touched, values)

    def _publish_keys(self, client_keys: Sequence[ClientKey], *, as_of: int | None) -> None:
        for chunk in _chunks(client_keys):
            touched = [names.WITHDRAWN, *(names.api_key(key.sha256) for key in chunk)]
            values: list[str | int | float] = [
                "" if as_of is None else as_of,
                names.API_KEY_TTL,
                len(chunk[0].to_hash()),
            ]
            for key in chunk:
                values += _flat(key.to_hash())
            self._run(scripts.PUBLISH_KEYS, touched, values)

    def _remove_strangers(self, endpoints: Sequence[Endpoint], client_keys: Sequence[ClientKey], *, as_of: int) -> None:
        members: dict[str, set[str]] = {}
        for endpoint in endpoints:
            if endpoint.status == ROUTED_STATUS:
                members.setdefault(endpoint.model_id, set()).add(endpoint.instance_id)
        known = {names.instance(endpoint.instance_id) for endpoint in endpoints}
        known |= {names.api_key(key.sha256) for key in client_keys}
        strangers = []
        for name in self._redis.scan_iter(count=1000):
            model_id = names.model_of(name)
            if model_id is not None:
                self._remove_members(name, members.get(model_id, set()), as_of=as_of)
            elif name.startswith((names.INSTANCE_PREFIX, names.API_KEY_PREFIX)) and name not in known:
                strangers.append(name)
        for chunk in _chunks(strangers):
            self._run(scripts.REMOVE_STRANGERS, chunk, [as_of])

    def _remove_members(self, name: str, known: set[str], *, as_of: int) -> None:
        strangers = [member for member in self._redis.sscan_iter(name, count=1000) if member not in known]
        for chunk in _chunks(strangers):
            self._run(scripts.REMOVE_MEMBERS, [name, *map(names.instance, chunk)], [as_of, *chunk])

    def _begin_rebuild(self) -> str:
        token = secrets.token_hex(8)
        self._redis.set(names.REBUILDING, token, ex=names.REBUILDING_TTL)
        return token

    def _finish_rebuild(self, token: str, now: datetime) -> None:
        values: list[str | int] = [token, now.isoformat(), names.EPOCH_TTL]
        self._run(scripts.FINISH_REBUILD, [names.REBUILDING, names.EPOCH], values)

    def _run(self, script: scripts.Script, touched: Sequence[str], values: Sequence[str | int | float]) -> Any:
        try:
            return self._redis.evalsha(script.sha, len(touched), *touched, *values)
        except redis.exceptions.NoScriptError:
            return self._redis.eval(script.text, len(touched), *touched, *values)


def _pulse(instance_id: str, raw: Sequence[str | None]) -> Pulse:
    last_heartbeat, ready, worker_load, current_load, detail, interruption = raw
    return Pulse(
        instance_id=instance_id,
        last_heartbeat=float(last_heartbeat or 0),
        ready=ready == "1",
        worker_load=int(worker_load or 0),
        current_load=int(current_load or 0),
        detail=detail or "",
        interruption=interruption or "",
    )


def _flat(fields: Mapping[str, str]) -> Iterator[str]:
    for name, value in fields.items():
        yield name
        yield value


def _chunks(items: Iterable[T], *, size: int = _CHUNK) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
