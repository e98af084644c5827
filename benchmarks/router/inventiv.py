"""Our router with all of it on: a key with limits, selection through a real Redis, usage, metrics, heartbeats."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from benchmarks.router import chats, machine
from benchmarks.router.programs import Failed
from benchmarks.router.routers import Running, await_answer
from routing.discovery import timing
from routing.discovery.publisher import Publisher
from routing.discovery.records import ClientKey, Endpoint, Routing, ServedModel
from routing.discovery.sealing import Sealer
from routing.router import heartbeats
from tests.routing.discovery import redis_server
from tests.routing.router.process import ENCRYPTION_KEY, RouterProcess

WELL_FOR_A_DAY = {"HEARTBEAT_STALE_AFTER": str(24 * 3600)}  # a setting for instances that don't heartbeat
_FEW = 64  # instances whose heartbeats cost next to nothing
_NEVER_REACHED = 10**9  # of a limit: it is counted and checked, and lets everything through


@dataclass(frozen=True, slots=True)
class Inventiv:
    """`instances` are spread over the engines' ports. A few of them heartbeat; of many, whose heartbeats are measured
    on their own, the router believes for a day that they are well."""

    name: str = "inventiv"
    is_slow: bool = False
    instances: int = 8
    routing: Routing = Routing.LEAST_LOAD

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return ""

    @contextmanager
    def running(self, ports: Sequence[int], home: Path) -> Iterator[Running]:
        fleet = [endpoint(number, port=ports[number % len(ports)]) for number in range(self.instances)]
        few = self.instances <= _FEW
        with (
            index(fleet, routing=self.routing) as built,
            router(home, built, {} if few else WELL_FOR_A_DAY) as process,
            beating(process.port, fleet if few else ()),
        ):
            await_answer(process.port, key=built.key)
            yield Running(
                port=process.port,
                pid=process.process.pid,
                key=built.key,
                redis_pid=built.redis_pid,
                redis_url=built.redis_url,
            )


@dataclass(frozen=True, slots=True)
class Index:
    redis_url: str
    redis_pid: int
    publisher: Publisher
    key: str  # a client's


def endpoint(number: int, *, port: int, ip: str = "127.0.0.1") -> Endpoint:
    instance_id = f"00000000-0000-4000-8000-{number:012d}"
    return Endpoint(
        instance_id=instance_id,
        model_id=chats.MODEL,
        ip=ip,
        port=port,
        status="READY",
        api_key=Sealer([ENCRYPTION_KEY]).seal("the engine's key"),
        agent_token_sha256=_sha256(agent_token(instance_id)),
    )


def agent_token(instance_id: str) -> str:
    return f"agent of {instance_id}"


@contextmanager
def index(fleet: Sequence[Endpoint], *, routing: Routing = Routing.LEAST_LOAD) -> Iterator[Index]:
    """A Redis that knows of these instances, all heard just now, and of a client's key."""
    with machine.pinned(machine.LOAD_CPU), redis_server.running() as server, server.client() as store:
        key = f"inv_{secrets.token_hex(16)}"
        publisher = Publisher(store)
        publisher.rebuild(
            endpoints=fleet,
            models=[_model(routing)],
            keys=[_client_key(key)],
            heartbeats=dict.fromkeys((each.instance_id for each in fleet), publisher.clock()),
            now=datetime.now(UTC),
        )
        yield Index(server.url, int(store.info("server")["process_id"]), publisher, key)


@contextmanager
def router(home: Path, built: Index, settings: Mapping[str, str]) -> Iterator[RouterProcess]:
    with machine.pinned(machine.ROUTER_CPU):
        process = RouterProcess(home / "log", redis_url=built.redis_url, **settings)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def beating(port: int, fleet: Sequence[Endpoint]) -> Iterator[None]:
    """Each instance is heard by the router as its agent would be heard: at once, and then every few seconds."""
    stopped = threading.Event()
    with httpx.Client(trust_env=False, timeout=10) as client:
        _beat(client, port, fleet)
        thread = threading.Thread(target=_beat_until, args=(stopped, client, port, fleet), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def say_ready(port: int, instance: Endpoint) -> None:
    """One heartbeat, the first of an instance that has come."""
    with httpx.Client(trust_env=False, timeout=10) as client:
        _say_ready(client, port, instance, load=0)


def _model(routing: Routing) -> ServedModel:
    return ServedModel(
        model_id=chats.MODEL,
        name=chats.MODEL,
        context_length=4096,
        created=1_772_366_400,
        aliases=("model",),
        routing=routing,
        input_price=100_000,
        output_price=300_000,
    )


def _client_key(key: str) -> ClientKey:
    return ClientKey(
        sha256=_sha256(key),
        key_id="1",
        name="benchmark",
        expires_at=0,
        models=(chats.MODEL,),
        requests_per_minute=_NEVER_REACHED,
        tokens_per_minute=_NEVER_REACHED,
        concurrency=_NEVER_REACHED,
        monthly_tokens=_NEVER_REACHED * 1000,
        monthly_micros=_NEVER_REACHED * 1000,
    )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _beat_until(stopped: threading.Event, client: httpx.Client, port: int, fleet: Sequence[Endpoint]) -> None:
    """A heartbeat that fails is followed by the next, as with an agent. If all do, the load's errors tell."""
    while not stopped.wait(timing.HEARTBEAT_INTERVAL):
        with suppress(httpx.HTTPError, Failed):
            _beat(client, port, fleet)


def _beat(client: httpx.Client, port: int, fleet: Sequence[Endpoint]) -> None:
    for instance in fleet:
        load = client.get(f"http://{instance.ip}:{instance.port}/load").json()["load"]
        _say_ready(client, port, instance, load=load)


def _say_ready(client: httpx.Client, port: int, instance: Endpoint, *, load: int) -> None:
    body = {"instance_id": instance.instance_id, "ready": True, "load": load}
    headers = {"authorization": f"Bearer {agent_token(instance.instance_id)}"}
    answer = client.post(f"http://127.0.0.1:{port}{heartbeats.PATH}", json=body, headers=headers)
    if answer.status_code != 200:
        raise Failed(f"a heartbeat was refused: {answer.status_code} {answer.text}")
