from __future__ import annotations

import pytest

from routing.discovery.redis_url import RedisAddress


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", RedisAddress()),
        ("redis://redis.internal:6380/3", RedisAddress(host="redis.internal", port=6380, db=3)),
        ("redis://host?db=2", RedisAddress(host="host", db=2)),
        ("rediss://us%40er:p%2Fw@host", RedisAddress(host="host", username="us@er", password="p/w", tls=True)),
        ("redis://:secret@[::1]:6379", RedisAddress(host="::1", password="secret")),
        ("unix:///run/redis.sock?db=4", RedisAddress(path="/run/redis.sock", db=4)),
        ("unix://user:pw@/run/redis.sock", RedisAddress(path="/run/redis.sock", username="user", password="pw")),
    ],
)
def test_it_reads_what_redis_py_takes(url: str, address: RedisAddress) -> None:
    assert RedisAddress.of(url) == address


@pytest.mark.parametrize(
    "url", ["http://host", "host:6379", "redis://host:port", "redis://host/first", "redis://h:99999"]
)
def test_what_is_no_such_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="a Redis URL"):
        RedisAddress.of(url)
