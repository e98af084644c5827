"""What Postgres would say, for a test: values to publish."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import redis

from routing.discovery import keys
from routing.discovery.records import ClientKey, Endpoint, ServedModel

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
AGENT_TOKEN = "the agent's token"


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def endpoint(
    instance_id: str,
    *,
    status: str = "READY",
    model_id: str = MODEL,
    ip: str = "10.0.0.1",
    port: int = 8000,
    agent_token: str = AGENT_TOKEN,
    api_key: str = "sealed",
) -> Endpoint:
    return Endpoint(
        instance_id=instance_id,
        model_id=model_id,
        ip=ip,
        port=port,
        status=status,
        api_key=api_key,
        agent_token_sha256=sha256(agent_token) if agent_token else "",
    )


def served_model(model_id: str = MODEL) -> ServedModel:
    return ServedModel(model_id=model_id, name=model_id, context_length=4096, created=1_700_000_000)


def client_key(key: str, *, expires_at: float = 0) -> ClientKey:
    return ClientKey(sha256=sha256(key), key_id="1", name="a key", expires_at=expires_at)


def redis_time(store: redis.Redis) -> float:
    seconds, micros = store.time()
    return float(seconds + micros / 1e6)


def heard(store: redis.Redis, instance_id: str, *, ago: float = 0, ready: bool = True, load: int = 0) -> None:
    """As if a heartbeat had come `ago` seconds ago."""
    fields = {"last_heartbeat": redis_time(store) - ago, "ready": int(ready), "current_load": load, "worker_load": load}
    store.hset(keys.instance(instance_id), mapping=fields)  # type: ignore[arg-type]
