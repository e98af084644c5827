"""What lies in Redis, as frozen values. One class per kind of record, with its way into and out of a hash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Self

_quoted = json.encoder.encode_basestring_ascii
_USAGE_LINE = "[%s,%.6f,%s,%s,%s,%s,%d,%s,%d,%d,%d,%s,%d,%d,%d]"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Hash `instance:{id}`, as the control plane writes it: address and status, never load or heartbeat.

    Beside these fields the hash holds what others write:
    `current_load`    requests in flight (the router adds and subtracts; a heartbeat sets the truth)
    `worker_load`     the load that the worker last reported
    `last_heartbeat`  when, seconds since the epoch by Redis' own clock (TIME)
    `ready`           "1" while the worker says that its engine is healthy, else "0"
    `interruption`    when the provider takes the machine back, as the worker was told (ISO 8601); "" mostly
    """

    instance_id: str
    model_id: str
    ip: str  # canonical (routing.addresses): a heartbeat must come from it
    port: int
    status: str  # fleet.states.Status; only READY is routed
    api_key: str  # of the worker; sealed (see sealing.py)
    agent_token_sha256: str  # hex; what a heartbeat's bearer token must hash to; "" before registration
    capacity: int = 0  # requests that it may have at once; 0 = no limit of ours, its engine queues
    weight: float = 1.0  # its speed beside other instances of the model: twice the weight takes twice the load

    def to_hash(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_hash(cls, raw: Mapping[str, str]) -> Self:
        return cls(
            instance_id=raw["instance_id"],
            model_id=raw["model_id"],
            ip=raw["ip"],
            port=int(raw["port"]),
            status=raw["status"],
            api_key=raw["api_key"],
            agent_token_sha256=raw["agent_token_sha256"],
            capacity=int(raw.get("capacity") or 0),
            weight=float(raw.get("weight") or 1),
        )


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says of itself."""

    instance_id: str
    ready: bool
    load: int  # its requests running and waiting
    detail: str = ""  # why it is not ready, in its own words
    interruption: str = ""  # when the provider takes its machine back, as the provider wrote it; empty: not announced


@dataclass(frozen=True, slots=True)
class Pulse:
    """What the router has heard from a worker."""

    instance_id: str
    last_heartbeat: float  # seconds since the epoch
    ready: bool
    worker_load: int
    current_load: int
    detail: str = ""  # why the worker is not ready, in its own words
    interruption: str = ""  # when its machine is taken back, as its provider wrote it


@dataclass(frozen=True, slots=True)
class Refusal:
    """A field of the hash `heartbeat:refusals`: heartbeats for an instance that did not come from its worker."""

    instance_id: str
    reason: str  # "token" | "address": what was not the instance's own
    address: str  # canonical; where they came from
    first_at: float  # seconds since the epoch by Redis' own clock
    last_at: float
    times: int

    @property
    def field(self) -> str:
        return f"{self.instance_id}|{self.reason}|{self.address}"

    @property
    def value(self) -> str:
        return f"{self.first_at:.6f} {self.last_at:.6f} {self.times}"

    @classmethod
    def from_field(cls, field: str, value: str) -> Self:
        instance_id, reason, address = field.rsplit("|", 2)
        first_at, last_at, times = value.split()
        return cls(instance_id, reason, address, float(first_at), float(last_at), int(times))


class Routing(StrEnum):
    """How an instance is chosen among those of a model. A session's header, where there is one, goes before."""

    LEAST_LOAD = "least_load"  # the less loaded of two at random
    PREFIX = "prefix"  # the one that had the beginning of this conversation, whose KV cache may still hold it


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A value of the hash `catalog:models`. Prices are of a million tokens, in millionths of the currency's unit."""

    model_id: str
    name: str
    context_length: int
    created: int  # Unix seconds, as /v1/models shows it
    aliases: tuple[str, ...] = ()  # other names by which it may be asked for
    fallbacks: tuple[str, ...] = ()  # ids of the models that answer, in this order, when none of its instances can
    routing: Routing = Routing.LEAST_LOAD
    first_byte_timeout: float = 0.0  # seconds until an answer has to begin; 0 = the router's setting
    input_price: int = 0
    output_price: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: str | bytes) -> Self:
        # A newer control plane may write more than this router knows.
        fields = {name: value for name, value in json.loads(raw).items() if name in cls.__slots__}
        fields["aliases"] = tuple(fields.get("aliases", ()))
        fields["fallbacks"] = tuple(fields.get("fallbacks", ()))
        fields["routing"] = Routing(fields.get("routing", Routing.LEAST_LOAD))
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class ClientKey:
    """Hash `apikey:{sha256}`: a key that may use the router. Its name in Redis is the hash of the key itself.

    A limit of 0 is none. Budgets are for a calendar month (UTC); money is in millionths of the currency's unit.
    """

    sha256: str  # hex
    key_id: str
    name: str
    expires_at: float  # Unix seconds; 0 = never
    models: tuple[str, ...] = ()  # ids that it may call; () = all
    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    concurrency: int = 0
    monthly_tokens: int = 0
    monthly_micros: int = 0

    @property
    def is_limited(self) -> bool:
        return bool(
            self.requests_per_minute
            or self.tokens_per_minute
            or self.concurrency
            or self.monthly_tokens
            or self.monthly_micros
        )

    def to_hash(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()} | {"models": json.dumps(self.models)}

    @classmethod
    def from_hash(cls, raw: Mapping[str, str]) -> Self:
        return cls(
            sha256=raw["sha256"],
            key_id=raw["key_id"],
            name=raw["name"],
            expires_at=float(raw["expires_at"]),
            models=tuple(json.loads(raw.get("models") or "[]")),
            requests_per_minute=int(raw.get("requests_per_minute") or 0),
            tokens_per_minute=int(raw.get("tokens_per_minute") or 0),
            concurrency=int(raw.get("concurrency") or 0),
            monthly_tokens=int(raw.get("monthly_tokens") or 0),
            monthly_micros=int(raw.get("monthly_micros") or 0),
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """A line of an entry of the stream `usage:batches`: one request that reached an instance, after its end.

    The router may write a line again (it did not hear that Redis had it): `usage_id` tells that it is the same one.
    """

    usage_id: str  # hex UUID, made by the router; not the client's request id
    ended_at: float  # Unix seconds
    key_id: str
    model_id: str
    instance_id: str
    operation: str  # "chat", "completions", "embeddings", ...: routing.router.bodies.surfaces
    status: int  # HTTP's; 499 = the client left before the end
    streamed: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int  # of the input: found in the engine's prefix cache
    estimated: bool  # the engine's own count did not come (the client left, the worker died)
    first_token_ms: int  # from the request's arrival to the first byte of the answer; -1 = none came
    duration_ms: int
    cost_micros: int

    def to_line(self) -> str:
        # Written by hand: an encoder would take three times as long for the same.
        return _USAGE_LINE % (
            _quoted(self.usage_id),
            self.ended_at,
            _quoted(self.key_id),
            _quoted(self.model_id),
            _quoted(self.instance_id),
            _quoted(self.operation),
            self.status,
            "true" if self.streamed else "false",
            self.input_tokens,
            self.output_tokens,
            self.cached_tokens,
            "true" if self.estimated else "false",
            self.first_token_ms,
            self.duration_ms,
            self.cost_micros,
        )

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        return cls(*json.loads(line))


@dataclass(frozen=True, slots=True)
class Target:
    """An instance that a request is to be sent to, as the router takes it from the index."""

    instance_id: str
    ip: str
    port: int
    api_key: str  # of the worker; sealed
    counted: bool  # whether `current_load` in Redis counts this request, so that it is to be taken off again
    ailing: bool = False  # it failed lately: a success is to be told


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that takes requests, as the snapshot has it."""

    target: Target
    load: int  # of all routers, when it was drawn
    capacity: int  # 0 = no limit
    weight: float

    @classmethod
    def from_answer(cls, answer: Sequence[str]) -> Self:
        instance_id, ip, port, api_key, load, capacity, weight = answer
        target = Target(instance_id=instance_id, ip=ip, port=int(port), api_key=api_key, counted=False)
        return cls(target, load=int(load), capacity=int(capacity or 0), weight=float(weight or 1))


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key with limits has left after a request was let in, or was not."""

    requests: int
    requests_full_in: int  # milliseconds
    tokens: int
    tokens_full_in: int  # milliseconds
