"""A driver that keeps to a rate: who is let through, who waits for how long, and that nobody is asked in vain."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.providers.base import Handle, Location, Provider, Throttled
from fleet.providers.metered import LONGEST_WAIT, Bucket, Metered, Rate, Urgency
from tests.fleet.paper_cloud import PaperCloud
from tests.fleet.stage import Clock

HERE = Location("eu", "eu-1")
SOME_MACHINE = Handle(server_id="srv-1", location=HERE)


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def bucket(seconds: Seconds) -> Bucket:
    return Bucket(Rate(per_second=2, burst=5), seconds)


def taken(bucket: Bucket, urgency: Urgency) -> int:
    """How many calls of that urgency it lets through now."""
    count = 0
    while bucket.take(urgency) is None:
        count += 1
    return count


def test_it_lets_a_burst_through_and_then_the_rate(bucket: Bucket, seconds: Seconds) -> None:
    assert taken(bucket, Urgency.ENDING) == 5
    seconds.now += 1
    assert taken(bucket, Urgency.ENDING) == 2
    seconds.now += 3600
    assert taken(bucket, Urgency.ENDING) == 5


def test_what_is_less_urgent_leaves_calls_to_what_is_more(bucket: Bucket) -> None:
    assert taken(bucket, Urgency.BEGINNING) == 3
    assert taken(bucket, Urgency.GOING_ON) == 1
    assert taken(bucket, Urgency.ENDING) == 1


def test_creates_that_want_all_there_is_never_keep_a_destruction_waiting(bucket: Bucket, seconds: Seconds) -> None:
    for _ in range(100):
        taken(bucket, Urgency.BEGINNING)
        assert bucket.take(Urgency.ENDING) is None
        seconds.now += 1


def test_a_rate_of_less_than_one_a_second_still_lets_everybody_through(seconds: Seconds) -> None:
    bucket = Bucket(Rate.of(0.5), seconds)

    for urgency in Urgency:
        assert bucket.take(urgency) is None
        assert bucket.take(urgency) is not None
        seconds.now += 2


def test_everybody_who_is_refused_gets_a_turn_of_his_own(bucket: Bucket) -> None:
    taken(bucket, Urgency.ENDING)  # the last of them was the first to be refused

    turns = [bucket.take(Urgency.ENDING) for _ in range(3)]

    assert turns == [timedelta(seconds=1), timedelta(seconds=1.5), timedelta(seconds=2)]


def test_nobody_is_told_to_wait_for_ever(bucket: Bucket) -> None:
    waits = [bucket.take(Urgency.BEGINNING) for _ in range(1000)]

    assert waits[-1] == timedelta(seconds=LONGEST_WAIT)


def test_a_call_that_is_too_much_is_not_asked(seconds: Seconds) -> None:
    cloud = PaperCloud(now=Clock())
    asked: list[str] = []
    cloud.on_call = asked.append
    driver: Provider = Metered(cloud, Bucket(Rate(per_second=1, burst=1), seconds))

    driver.get(SOME_MACHINE)
    with pytest.raises(Throttled) as refused:
        driver.get(SOME_MACHINE)

    assert asked == ["get"]
    assert refused.value.retry_after == timedelta(seconds=1)


def test_a_provider_that_says_too_many_empties_the_bucket_for_everybody(bucket: Bucket) -> None:
    cloud = PaperCloud(now=Clock())
    cloud.fail_next("get", Throttled("429"))
    driver = Metered(cloud, bucket)

    with pytest.raises(Throttled, match="429"):
        driver.get(SOME_MACHINE)

    assert taken(bucket, Urgency.ENDING) == 0
