"""The truth that the control plane would publish, and a Redis that holds it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from openai import AsyncOpenAI

from routing.discovery import keys
from routing.discovery.publisher import Publisher
from routing.discovery.records import ClientKey, Endpoint, ServedModel, Usage
from routing.discovery.sealing import Sealer
from tests.routing.discovery import truth
from tests.routing.router import engine as engines
from tests.routing.router.process import ENCRYPTION_KEY, RouterProcess


@dataclass
class Fleet:
    router: RouterProcess
    store: redis.Redis
    model: str = field(default_factory=lambda: f"org/model-{uuid.uuid4().hex[:8]}")
    key: str = field(default_factory=lambda: f"inv_{uuid.uuid4().hex}")
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    models: list[ServedModel] = field(default_factory=list)
    keys: list[ClientKey] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.publisher = Publisher(self.store)
        self.models.append(truth.served_model(self.model))
        self.keys.append(truth.client_key(self.key))
        self.rebuild()

    def rebuild(self) -> None:
        self.publisher.rebuild(
            endpoints=list(self.endpoints.values()),
            models=self.models,
            keys=self.keys,
            heartbeats={instance_id: truth.redis_time(self.store) for instance_id in self.endpoints},
            now=truth.NOW,
        )

    def limit(self, **limits: Any) -> None:
        """Limits of the key, as records.ClientKey has them."""
        self.keys[0] = replace(self.keys[0], key_id=uuid.uuid4().hex, **limits)
        self.publisher.publish_key(self.keys[0])

    def describe(self, **settings: Any) -> None:
        """Settings of the model, as records.ServedModel has them; known to the router after its next look."""
        self.models[0] = replace(self.models[0], **settings)
        self.publisher.publish_models(self.models)

    def add(
        self, port: int, *, load: int = 0, ip: str = "127.0.0.1", model: str = "", capacity: int = 0, weight: float = 1
    ) -> str:
        """An instance that is ready and was heard just now."""
        instance_id = str(uuid.uuid4())
        self.endpoints[instance_id] = replace(
            truth.endpoint(
                instance_id,
                model_id=model or self.model,
                ip=ip,
                port=port,
                api_key=Sealer([ENCRYPTION_KEY]).seal(engines.API_KEY),
            ),
            capacity=capacity,
            weight=weight,
        )
        self.publisher.publish(self.endpoints[instance_id])
        truth.heard(self.store, instance_id, load=load)
        return instance_id

    def move(self, instance_id: str, status: str) -> None:
        self.endpoints[instance_id] = replace(self.endpoints[instance_id], status=status)
        self.publisher.publish(self.endpoints[instance_id])

    def load(self, instance_id: str) -> int:
        return int(self.store.hget(keys.instance(instance_id), "current_load") or 0)

    def usage(self) -> list[Usage]:
        """What the router has reported of requests for the model so far."""
        entries: Any = self.store.xrange(keys.USAGE)
        lines = [line for _, fields in entries for line in fields["lines"].split("\n")]
        # The router may still be telling of another test's requests.
        return [usage for usage in map(Usage.from_line, lines) if usage.model_id == self.model]

    def client(self, key: str | None = None, *, timeout: float = 20) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.router.url}/v1", api_key=key or self.key, max_retries=0, timeout=timeout)

    @property
    def chat(self) -> dict[str, object]:
        return {"model": self.model, "messages": [{"role": "user", "content": "Hi"}]}

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


async def until(condition: Callable[[], bool], *, within: float = 10) -> None:
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.01)
