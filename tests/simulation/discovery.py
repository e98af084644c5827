"""The discovery index in memory: what the control plane's pen (`routing.discovery.publisher`) would leave in Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import redis

from routing.discovery.records import ClientKey, Endpoint, Pulse, ServedModel
from routing.discovery.spending import Spent
from tests.simulation.clock import START, Clock
from tests.simulation.director import Director


@dataclass
class SimulatedDiscovery:
    time: Clock
    director: Director
    heard: Callable[[str], Pulse | None]  # what a worker of this instance would have said
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    published_at: dict[str, float] = field(default_factory=dict)
    built_at: datetime | None = START - timedelta(days=1)

    def publish(self, endpoint: Endpoint) -> None:
        self._call("publish")
        self._put(endpoint)
        self.published_at[endpoint.instance_id] = self.clock()

    def withdraw(self, instance_id: str, model_id: str) -> None:
        self._call("withdraw")
        self.endpoints.pop(instance_id, None)
        self.withdrawn.add(instance_id)

    def clock(self) -> float:
        return self.time().timestamp()

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
        self._call("rebuild")
        fresh = {endpoint.instance_id: endpoint for endpoint in endpoints}
        # What was published since the truth was read stands: whoever rebuilds may have been slow.
        news = {each: it for each, it in self.endpoints.items() if self.published_at.get(each, 0) > (as_of or 0)}
        self.endpoints = {each: it for each, it in {**fresh, **news}.items() if each not in self.withdrawn}
        self.built_at = self.built_at or now

    def epoch(self) -> datetime | None:
        self._call("epoch")
        return self.built_at

    def pulses(self, instance_ids: Iterable[str]) -> dict[str, Pulse]:
        self._call("pulses")
        found = {each: self.heard(each) for each in instance_ids if each in self.endpoints}
        return {each: pulse for each, pulse in found.items() if pulse is not None}

    def seed_spending(self, spent: Iterable[Spent]) -> None:
        """Nobody calls models here."""

    def routers_alive_since(self) -> datetime | None:
        return START - timedelta(days=1)

    # --- what the schedule does and asks ----------------------------------------------------------------------------

    def flush(self) -> None:
        self.endpoints, self.withdrawn, self.built_at = {}, set(), None

    @property
    def routable(self) -> set[str]:
        """Instances that a router would send a request to."""
        return {each for each, endpoint in self.endpoints.items() if endpoint.status == "READY" and self.is_fresh(each)}

    def is_fresh(self, instance_id: str) -> bool:
        """Whether the instance's worker was heard, as healthy, within the last HEARTBEAT_STALE_AFTER seconds."""
        pulse = self.heard(instance_id)
        return pulse is not None and pulse.ready and pulse.last_heartbeat > self.time().timestamp() - _STALE

    def _put(self, endpoint: Endpoint) -> None:
        known = self.endpoints.get(endpoint.instance_id)
        if endpoint.instance_id in self.withdrawn:
            return
        if known is not None and _RANK[known.status] > _RANK[endpoint.status]:
            endpoint = replace(endpoint, status=known.status)
        self.endpoints[endpoint.instance_id] = endpoint

    def _call(self, name: str) -> None:
        self.director.at(name)
        if self.director.strikes(self.director.chances.redis_error):
            self.director.tell(f"redis: away at {name}")
            raise redis.ConnectionError("away")


_STALE = 15  # seconds
_RANK = {"PROVISIONING": 0, "BOOTING": 1, "READY": 2, "DRAINING": 3, "FAILED": 3, "TERMINATED": 4}
