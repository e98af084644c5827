"""All processes share what an account may be asked; without Redis, each keeps to its share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis
from django.conf import settings

from fleet.lifecycle.call_rates import SharedBucket, metered
from fleet.providers.metered import Bucket, Rate, Urgency
from tests.fleet.paper_cloud import PaperCloud
from tests.fleet.stage import Clock

# So slow that nothing is added to the bucket while a test runs.
RATE = Rate(per_second=0.001, burst=5)


class Seconds:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def client() -> Iterator[redis.Redis]:
    client: redis.Redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def process(client: redis.Redis, seconds: Seconds) -> Callable[[], SharedBucket]:
    def start() -> SharedBucket:
        alone = Bucket(Rate(per_second=0.001, burst=2), seconds)
        return SharedBucket(RATE, client=client, key="provider:calls:test", alone=alone)

    return start


def taken(buckets: list[SharedBucket], urgency: Urgency) -> int:
    """How many calls they let through, in turns, until each refuses."""
    return sum(bucket.take(urgency) is None for _ in range(10) for bucket in buckets)


def test_all_processes_draw_from_one_bucket(process: Callable[[], SharedBucket]) -> None:
    assert taken([process(), process(), process()], Urgency.ENDING) == 5


def test_what_is_less_urgent_leaves_calls_to_what_is_more_in_another_process(
    process: Callable[[], SharedBucket],
) -> None:
    assert taken([process()], Urgency.BEGINNING) == 3
    assert taken([process()], Urgency.GOING_ON) == 1
    assert taken([process()], Urgency.ENDING) == 1


def test_those_that_are_refused_get_turns_one_after_the_other_whatever_process_they_are_in(
    client: redis.Redis, seconds: Seconds
) -> None:
    rate = Rate(per_second=1, burst=1)
    one, other = (
        SharedBucket(rate, client=client, key="provider:calls:test", alone=Bucket(rate, seconds)) for _ in range(2)
    )
    one.empty()

    waits = [bucket.take(Urgency.BEGINNING) for bucket in (one, other, one, other)]

    rounded = [round(wait.total_seconds() + 0.3) for wait in waits if wait]
    assert rounded == [1, 2, 3, 4]


def test_what_a_provider_refuses_is_known_to_every_process(process: Callable[[], SharedBucket]) -> None:
    process().empty()

    assert taken([process()], Urgency.ENDING) == 0


def test_a_process_keeps_to_its_share_while_redis_is_away(
    process: Callable[[], SharedBucket], client: redis.Redis, seconds: Seconds
) -> None:
    bucket = process()
    client.set("provider:calls:test", "no hash: every script fails")
    assert taken([bucket], Urgency.ENDING) == 2

    client.flushdb()
    assert taken([bucket], Urgency.ENDING) == 0
    seconds.now += 6

    assert taken([bucket], Urgency.ENDING) == 5


def test_a_provider_without_a_rate_is_asked_as_it_is(client: redis.Redis) -> None:
    cloud = PaperCloud(now=Clock())

    assert metered(cloud, "mock", None, client) is cloud
    assert metered(cloud, "aws", None, client) is not cloud
