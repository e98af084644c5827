"""Our router with all of it on: a key with limits, selection through a real Redis, usage, metrics, heartbeats."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from routing.router.heartbeats import PATH as HEARTBEAT
from tests.routing.discovery import redis_server
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router.process import ENCRYPTION_KEY, RouterProcess

_A_DAY = 24 * 3600.0
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
            index(fleet, routing=self.routing) as (key, redis_url, redis_pid),
            router(home, redis_url, {} if few else {"HEARTBEAT_STALE_AFTER": str(_A_DAY)}) as process,
            beating(process.port, fleet if few else (), load=_load),
        ):
            await_answer(process.port, key=key)
            yield Running(port=process.port, pid=process.process.pid, key=key, redis_pid=redis_pid)


def endpoint(number: int, *, port: int, ip: str = "127.0.0.1") -> Endpoint:
    return Endpoint(
        instance_id=f"00000000-0000-4000-8000-{number:012d}",
        model_id=chats.MODEL,
        ip=ip,
        port=port,
        status="READY",
        api_key=Sealer([ENCRYPTION_KEY]).seal("the engine's key"),
        agent_token_sha256=_sha256(agent_token(number)),
    )


def agent_token(number: int) -> str:
    return f"agent-{number}"


@contextmanager
def index(fleet: Sequence[Endpoint], *, routing: Routing) -> Iterator[tuple[str, str, int]]:
    """A Redis with these instances, all just heard, and a client key: the key, the Redis' URL, its process."""
    with machine.pinned(machine.LOAD_CPU), redis_server.running() as server:
        key = f"inv_{secrets.token_hex(16)}"
        pid = _publish(server, fleet, key, routing)
        yield key, server.url, pid


@contextmanager
def router(home: Path, redis_url: str, settings: dict[str, str]) -> Iterator[RouterProcess]:
    with machine.pinned(machine.ROUTER_CPU):
        process = RouterProcess(home / "log", redis_url=redis_url, **settings)
    try:
        yield process
    finally:
        process.stop()


@contextmanager
def beating(port: int, fleet: Sequence[Endpoint], *, load: Callable[[httpx.Client, Endpoint], int]) -> Iterator[None]:
    """Each instance is heard by the router as its agent would be heard: at once, and then every few seconds."""
    stopped = threading.Event()
    with httpx.Client(trust_env=False) as client:
        _beat(client, port, fleet, load)
        thread = threading.Thread(target=_beat_until, args=(stopped, client, port, fleet, load), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()


def _publish(server: RedisServer, fleet: Sequence[Endpoint], key: str, routing: Routing) -> int:
    with server.client() as store:
        publisher = Publisher(store)
        publisher.rebuild(
            endpoints=fleet,
            models=[_model(routing)],
            keys=[_client_key(key)],
            heartbeats=dict.fromkeys((each.instance_id for each in fleet), publisher.clock()),
            now=datetime.now(UTC),
        )
        return int(store.info("server")["process_id"])


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


def _beat_until(
    stopped: threading.Event,
    client: httpx.Client,
    port: int,
    fleet: Sequence[Endpoint],
    load: Callable[[httpx.Client, Endpoint], int],
) -> None:
    while not stopped.wait(timing.HEARTBEAT_INTERVAL):
        _beat(client, port, fleet, load)


def _beat(
    client: httpx.Client, port: int, fleet: Sequence[Endpoint], load: Callable[[httpx.Client, Endpoint], int]
) -> None:
    for number, instance in enumerate(fleet):
        body = {"instance_id": instance.instance_id, "ready": True, "load": load(client, instance)}
        headers = {"authorization": f"Bearer {agent_token(number)}"}
        answer = client.post(f"http://127.0.0.1:{port}{HEARTBEAT}", json=body, headers=headers, timeout=10)
        if answer.status_code != 200:
            raise Failed(f"a heartbeat was refused: {answer.status_code} {answer.text}")


def _load(client: httpx.Client, instance: Endpoint) -> int:
    return int(client.get(f"http://{instance.ip}:{instance.port}/load", timeout=10).json()["load"])
