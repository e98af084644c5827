"""What lies in Redis, as frozen values. One class per kind of record, with its way into and out of a hash."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self


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


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A value of the hash `catalog:models`."""

    model_id: str
    name: str
    context_length: int
    created: int  # Unix seconds, as /v1/models shows it

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, raw: str | bytes) -> Self:
        return cls(**json.loads(raw))


@dataclass(frozen=True, slots=True)
class ClientKey:
    """Hash `apikey:{sha256}`: a key that may use the router. Its name in Redis is the hash of the key itself."""

    sha256: str  # hex
    key_id: str
    name: str
    expires_at: float  # Unix seconds; 0 = never

    def to_hash(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_hash(cls, raw: Mapping[str, str]) -> Self:
        return cls(
            sha256=raw["sha256"],
            key_id=raw["key_id"],
            name=raw["name"],
            expires_at=float(raw["expires_at"]),
        )


@dataclass(frozen=True, slots=True)
class Target:
    """An instance that a request is to be sent to, as the router takes it from the index."""

    instance_id: str
    ip: str
    port: int
    api_key: str  # of the worker; sealed
    counted: bool  # whether `current_load` in Redis counts this request, so that it is to be taken off again

    @classmethod
    def from_answer(cls, answer: Sequence[str], *, counted: bool) -> Self:
        instance_id, ip, port, api_key = answer
        return cls(instance_id=instance_id, ip=ip, port=int(port), api_key=api_key, counted=counted)
