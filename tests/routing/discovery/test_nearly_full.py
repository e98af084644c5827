"""A large model of which nearly every instance is full: the places that are left are found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from routing.discovery.directory import AllFull, Directory
from routing.discovery.publisher import Publisher
from tests.routing.discovery.truth import MODEL, NOW, endpoint, heard, served_model


@pytest.fixture
def instances(publisher: Publisher, store: redis.Redis) -> list[str]:
    """Two hundred, with room for one request each, all full."""
    publisher.rebuild(endpoints=[], models=[served_model()], keys=[], heartbeats={}, now=NOW)
    ids = [f"instance-{number}" for number in range(200)]
    for instance_id in ids:
        publisher.publish(replace(endpoint(instance_id), capacity=1))
        heard(store, instance_id, load=1)
    return ids


async def test_the_last_free_place_is_found(directory: Directory, store: redis.Redis, instances: list[str]) -> None:
    for free in instances[::20]:
        heard(store, free, load=0)

        target, _ = await directory.take(MODEL)

        assert target.instance_id == free


@pytest.mark.usefixtures("instances")
async def test_where_there_is_none_it_says_so(directory: Directory) -> None:
    with pytest.raises(AllFull):
        await directory.take(MODEL)
