"""What operators are told of where a request would go, from a real index."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
import redis

from routing import addresses
from routing.discovery import keys, route_report
from routing.discovery.link import Link
from routing.discovery.publisher import Publisher
from routing.discovery.records import Endpoint, Routing, ServedModel
from routing.router.errors import ApiError
from routing.router.sight.operators import Operators
from routing.router.sight.route_report import PATH, RouteReport
from tests.routing.discovery import truth
from tests.routing.discovery.redis_server import RedisServer
from tests.routing.router.asking import ask

MODEL = replace(truth.served_model("org/model"), aliases=("small", "org/fallback"))
FALLBACK = truth.served_model("org/fallback")


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis_server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[Link]:
    link = Link(redis_server.url, scripts=route_report.SCRIPTS)
    await link.start(wait=5)
    yield link
    await link.close()


class Index:
    """Models and instances, published as the control plane would."""

    def __init__(self, store: redis.Redis) -> None:
        self.store = store
        self._publisher = Publisher(store)

    def publish(self, *models: ServedModel) -> None:
        self._publisher.rebuild(endpoints=[], models=list(models), keys=[], heartbeats={}, now=truth.NOW)

    def add(
        self, instance_id: str, *, ago: float = 0, ready: bool = True, load: int = 0, **learned: object
    ) -> Endpoint:
        """Heard `ago` seconds ago. `learned`: what routers and workers wrote into its hash."""
        endpoint = truth.endpoint(instance_id, model_id=MODEL.model_id)
        self._publisher.publish(endpoint)
        truth.heard(self.store, instance_id, ago=ago, ready=ready, load=load)
        if learned:
            self.store.hset(keys.instance(instance_id), mapping={name: str(each) for name, each in learned.items()})
        return endpoint

    def move(self, endpoint: Endpoint, status: str) -> None:
        self._publisher.publish(replace(endpoint, status=status))

    def micros(self, *, seconds_ahead: float) -> str:
        return f"{(truth.redis_time(self.store) + seconds_ahead) * 1e6:.0f}"


@pytest.fixture
def index(store: redis.Redis) -> Index:
    index = Index(store)
    index.publish(MODEL, FALLBACK)
    return index


async def report(link: Link, model: str = MODEL.model_id, *, peer: str = "127.0.0.1") -> Any:
    endpoint = RouteReport(link, operators=Operators(addresses.LOOPBACK), stale_after=15)
    answer = await ask(endpoint.answer, PATH, query=f"model={quote(model)}", peer=peer)
    assert answer.status == 200
    return json.loads(answer.body)


def by_id(told: Any) -> dict[str, Any]:
    return {instance["id"]: instance for instance in told["instances"]}


async def test_it_tells_an_instance_that_takes_requests(index: Index, link: Link) -> None:
    index.add("a", ago=3, load=4, capacity=16, weight=2.0)

    told = await report(link)

    assert told["instances"] == [
        {
            "id": "a",
            "routed": True,
            "why_not": None,
            "status": "READY",
            "address": "10.0.0.1:8000",
            "load": 4,
            "worker_load": 4,
            "capacity": 16,
            "weight": 2.0,
            "silent_for_s": pytest.approx(3, abs=1),
            "failures": 0,
            "ejections": 0,
            "ejected_for_s": 0,
            "detail": "",
            "interruption": "",
        }
    ]
    assert told["counts"] == {"instances": 1, "routed": 1, "left_out": {}, "complete": True}
    assert told["would_go_to"] == {"instance_id": "a", "how": "the least loaded"}


async def test_it_says_why_each_of_the_others_is_left_out(index: Index, link: Link) -> None:
    index.move(index.add("draining"), "DRAINING")
    index.add("silent", ago=22)
    index.add("ailing", ready=False, detail="CUDA out of memory")
    index.add("full", load=8, capacity=8)
    index.add("ejected", ejected_until=index.micros(seconds_ahead=30), ejections=2)
    index.add("probed", ejected_until=index.micros(seconds_ahead=5), ejections=1, probing=1)
    index.add("unlisted")
    index.store.srem(keys.model_instances(MODEL.model_id), "unlisted")
    index.add("gone")
    index.store.delete(keys.instance("gone"))
    index.add("unheard")
    index.store.hdel(keys.instance("unheard"), "last_heartbeat")

    told = await report(link)

    why = {instance_id: instance["why_not"] for instance_id, instance in by_id(told).items()}
    assert why["draining"] == "it is DRAINING, not READY"
    assert why["silent"].startswith("silent for 2")
    assert why["ailing"] == "its engine is not healthy: CUDA out of memory"
    assert why["full"] == "full: 8 of 8 requests"
    assert why["ejected"].startswith("ejected for its failures for another")
    assert why["ejected"].endswith("(ejection 2 in a row)")
    assert "a request is on its way to see" in why["probed"]
    assert "not in the model's set" in why["unlisted"]
    assert "its record is gone" in why["gone"]
    assert why["unheard"] == "it was never heard"
    assert told["counts"] == {
        "instances": 9,
        "routed": 0,
        "left_out": {
            "status": 1,
            "silent": 2,
            "unhealthy": 1,
            "full": 1,
            "ejected": 2,
            "unlisted": 1,
            "gone": 1,
        },
        "complete": True,
    }


async def test_an_ejection_that_is_over_leaves_nobody_out(index: Index, link: Link) -> None:
    index.add("a", ejected_until=index.micros(seconds_ahead=-1), ejections=1)

    assert by_id(await report(link))["a"]["routed"]


async def test_the_least_loaded_for_its_speed_would_be_picked(index: Index, link: Link) -> None:
    index.add("slow", load=3, weight=1.0)
    index.add("fast", load=5, weight=2.0)
    index.add("silent", ago=60)

    told = await report(link)

    assert told["would_go_to"]["instance_id"] == "fast"
    assert [instance["id"] for instance in told["instances"]] == ["fast", "slow", "silent"]


async def test_of_a_model_that_keeps_conversations_together_it_says_so(index: Index, link: Link) -> None:
    index.publish(replace(MODEL, routing=Routing.PREFIX))
    index.add("a")

    told = await report(link)

    assert told["model"]["routing"] == "prefix"
    assert "where the conversation's beginning belongs" in told["would_go_to"]["how"]


async def test_when_all_are_ejected_one_of_them_is_tried(index: Index, link: Link) -> None:
    index.add("busy", load=4, ejected_until=index.micros(seconds_ahead=30), ejections=1)
    index.add("idle", ejected_until=index.micros(seconds_ahead=30), ejections=1)

    told = await report(link)

    assert told["would_go_to"] == {
        "instance_id": "idle",
        "how": "all are ejected: one of them is tried all the same",
    }


async def test_without_a_place_it_goes_to_a_fallback_else_into_the_queue(index: Index, link: Link) -> None:
    index.publish(replace(MODEL, fallbacks=("org/unknown", FALLBACK.model_id)), FALLBACK)
    index.add("full", load=8, capacity=8)
    assert (await report(link))["would_go_to"]["how"].startswith("into the queue")

    index._publisher.publish(truth.endpoint("f", model_id=FALLBACK.model_id))
    truth.heard(index.store, "f")
    told = await report(link)

    assert told["would_go_to"]["model"] == FALLBACK.model_id
    assert told["fallbacks"] == [
        {"id": "org/unknown", "known": False, "routed": 0},
        {"id": FALLBACK.model_id, "known": True, "routed": 1},
    ]


async def test_a_model_without_instances_goes_nowhere(index: Index, link: Link) -> None:
    told = await report(link)

    assert told["would_go_to"] == {"how": "nowhere: it is refused with 503"}
    assert told["instances"] == []


@pytest.mark.parametrize(
    ("name", "model_id"), [("small", "org/model"), ("org/model", "org/model"), ("org/fallback", "org/fallback")]
)
async def test_a_model_is_found_by_its_id_before_an_alias(name: str, model_id: str, index: Index, link: Link) -> None:
    told = await report(link, name)

    assert (told["asked_for"], told["model"]["id"]) == (name, model_id)


async def test_a_large_fleet_is_counted_and_a_part_of_it_shown(index: Index, link: Link) -> None:
    pipe = index.store.pipeline()
    now = truth.redis_time(index.store)
    for number in range(2500):
        instance_id = f"i-{number}"
        fields = {**truth.endpoint(instance_id, model_id=MODEL.model_id).to_hash(), "ready": "1"}
        fields["last_heartbeat"] = str(now - number % 2 * 3600)
        pipe.hset(keys.instance(instance_id), mapping=fields)  # type: ignore[arg-type]
        pipe.sadd(keys.model_instances(MODEL.model_id), instance_id)
    pipe.execute()

    told = await report(link)

    assert told["counts"] == {"instances": 2500, "routed": 1250, "left_out": {"silent": 1250}, "complete": True}
    assert len(told["instances"]) == 100
    assert sum(instance["routed"] for instance in told["instances"]) == 50


async def test_no_secret_is_told(index: Index, link: Link) -> None:
    index.add("a")

    told = json.dumps(await report(link))

    assert "sealed" not in told
    assert truth.sha256(truth.AGENT_TOKEN) not in told


async def test_a_question_without_an_answer_is_refused(index: Index, link: Link) -> None:
    for model, peer, status in (("", "127.0.0.1", 400), ("no/such", "127.0.0.1", 404), ("small", "192.0.2.1", 404)):
        with pytest.raises(ApiError) as refused:
            await report(link, model, peer=peer)
        assert refused.value.status == status


async def test_with_the_index_lost_it_asks_to_try_again(index: Index, link: Link) -> None:
    index.store.flushall()

    with pytest.raises(ApiError) as refused:
        await report(link)

    assert refused.value.status == 503
