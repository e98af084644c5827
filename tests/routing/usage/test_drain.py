"""Usage on its way from the routers' stream into Postgres: at least once, and counted once."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import Count, Q, Sum
from django.db.models.functions import Coalesce, TruncHour
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.exceptions import NoPermissionError

from fleet import tasks
from inventiv.accounts.models import User
from routing.discovery import keys
from routing.discovery.records import Usage
from routing.discovery.usage_stream import UsageStream
from routing.models import ApiKey, RejectedUsage, UsageHour, UsageRecord
from routing.usage.drain import Drained, drain
from tests.routing.usage.told import KEY, MODEL, NOW, OTHER_KEY, tell, tell_raw, usage

pytestmark = pytest.mark.django_db

HOUR = NOW.replace(minute=0)
SUMS = ("input_tokens", "output_tokens", "cached_tokens", "cost_micros", "duration_ms")


def left(store: redis.Redis) -> int:
    length: Any = store.xlen(keys.USAGE)
    return int(length)


# --- what becomes of a line ---------------------------------------------------------------------------------------


def test_a_line_becomes_a_row_and_a_part_of_its_hours_sums(store: redis.Redis, stream: UsageStream) -> None:
    one = usage()
    tell(store, one)

    assert drain(stream, now=NOW) == Drained(entries=1, counted=1, rejected=0)

    row = UsageRecord.objects.get()
    assert row.ended_at == NOW
    stored = [getattr(row, name) for name in Usage.__slots__ if name != "ended_at"]
    told = [getattr(one, name) for name in Usage.__slots__ if name != "ended_at"]
    assert [str(value).replace("-", "") for value in stored] == [str(value).replace("-", "") for value in told]
    assert UsageHour.objects.values().get() == {
        "id": UsageHour.objects.get().pk,
        "hour": HOUR,
        "key_id": uuid.UUID(KEY),
        "model_id": MODEL,
        "operation": "chat",
        "status": 200,
        "requests": 1,
        "estimated": 0,
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 50,
        "cost_micros": 1234,
        "duration_ms": 900,
        "first_token_ms": 30,
        "first_tokens": 1,
    }
    assert left(store) == 0


def test_an_answer_that_never_began_has_no_time_to_its_first_token(store: redis.Redis, stream: UsageStream) -> None:
    tell(store, usage(first_token_ms=-1, status=504), usage(first_token_ms=0))
    drain(stream, now=NOW)

    assert UsageRecord.objects.get(status=504).first_token_ms is None
    assert [(hour.first_token_ms, hour.first_tokens) for hour in UsageHour.objects.order_by("status")] == [
        (0, 1),
        (0, 0),
    ]


def test_the_sums_are_by_hour_key_model_operation_and_status(store: redis.Redis, stream: UsageStream) -> None:
    before: dict[str, object] = {"ended_at": (HOUR - timedelta(seconds=1)).timestamp()}
    others: list[dict[str, object]] = [{"key_id": OTHER_KEY}, {"model_id": "m"}, {"operation": "o"}, {"status": 499}]
    for change in [{}, {}, before, *others]:
        tell(store, usage(**change))
    drain(stream, now=NOW)

    assert sorted(UsageHour.objects.values_list("requests", flat=True)) == [1, 1, 1, 1, 1, 2]


def test_a_key_that_nobody_knows_is_counted_all_the_same(store: redis.Redis, stream: UsageStream) -> None:
    tell(store, usage(key_id=str(uuid.uuid4())))
    assert drain(stream, now=NOW).counted == 1


# --- once ---------------------------------------------------------------------------------------------------------


def test_a_line_that_comes_twice_counts_once(store: redis.Redis, stream: UsageStream) -> None:
    one, other = usage(), usage()
    tell(store, one, one)
    tell(store, one, other)
    assert drain(stream, now=NOW).counted == 2
    tell(store, other)
    assert drain(stream, now=NOW).counted == 0

    assert UsageHour.objects.get().requests == 2


def test_a_line_that_comes_again_with_other_numbers_changes_nothing(store: redis.Redis, stream: UsageStream) -> None:
    tell(store, usage(usage_id="ab" * 16, input_tokens=1))
    drain(stream, now=NOW)
    tell(store, usage(usage_id="ab" * 16, input_tokens=2))
    drain(stream, now=NOW)

    assert UsageHour.objects.get().input_tokens == UsageRecord.objects.get().input_tokens == 1


@pytest.fixture
def cannot_delete(store: redis.Redis) -> Iterator[UsageStream]:
    """The same stream, to a reader who dies, in effect, between the commit and the deletion."""
    store.acl_setuser("reader", enabled=True, nopass=True, keys=["*"], commands=["+select", "+xrange"])
    with redis.Redis.from_url(settings.REDIS_URL, username="reader", password="any") as client:
        yield UsageStream(client)
    store.acl_deluser("reader")


@pytest.mark.django_db(transaction=True)
def test_what_was_counted_and_not_deleted_is_not_counted_again(
    store: redis.Redis, stream: UsageStream, cannot_delete: UsageStream
) -> None:
    tell(store, usage(), usage())
    tell_raw(store, "nonsense")
    with pytest.raises(NoPermissionError):
        drain(cannot_delete, now=NOW)
    assert UsageRecord.objects.count() == 2
    assert left(store) == 2

    assert drain(stream, now=NOW) == Drained(entries=2, counted=0, rejected=1)

    assert UsageHour.objects.get().requests == 2
    assert RejectedUsage.objects.count() == 1
    assert left(store) == 0


@pytest.mark.django_db(transaction=True)
def test_an_error_of_postgres_leaves_the_stream_whole(store: redis.Redis, stream: UsageStream) -> None:
    tell(store, usage(), usage())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}) as another:
        another.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])

    with pytest.raises(Error):
        drain(stream, now=NOW)
    assert left(store) == 1
    connection.close()

    assert not UsageHour.objects.exists()
    assert drain(stream, now=NOW).counted == 2


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_fails_counts_nothing_of_it(store: redis.Redis, stream: UsageStream) -> None:
    tell(store, usage())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_hours ADD CONSTRAINT broken CHECK (requests < 1)")
    try:
        with pytest.raises(Error):
            drain(stream, now=NOW)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE usage_hours DROP CONSTRAINT broken")
    assert not UsageRecord.objects.exists()

    assert drain(stream, now=NOW).counted == 1
    assert UsageHour.objects.get().requests == 1


@pytest.mark.django_db(transaction=True)
def test_two_readers_at_once_count_everything_once(store: redis.Redis, stream: UsageStream) -> None:
    told = [usage(key_id=str(uuid.UUID(int=number % 7)), model_id=f"m{number % 5}") for number in range(3000)]
    for at in range(0, len(told), 100):
        tell(store, *told[at : at + 100])
    counted: list[int] = []
    together = threading.Barrier(2)

    def read(order: int) -> None:
        together.wait(timeout=10)
        for _ in range(3):
            counted.append(drain(stream, now=NOW).counted)
        connection.close()

    threads = [threading.Thread(target=read, args=[order]) for order in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert sum(counted) == UsageRecord.objects.count() == len(told)
    assert UsageHour.objects.aggregate(all=Sum("requests"))["all"] == len(told)
    assert left(store) == 0


# --- lines that can't be counted ----------------------------------------------------------------------------------


def changed(**fields: object) -> str:
    return json.dumps(list(astuple(usage(**fields))))


BAD: dict[str, str | bytes] = {
    "no JSON": "nonsense",
    "nothing": "",
    "no text": b"\xff\xfe\x00",
    "another value": "17",
    "an object": json.dumps(dict.fromkeys(Usage.__slots__, 1)),
    "too few": "[]",
    "too many": json.dumps([*astuple(usage()), 1]),
    "deeply nested": "[" * 100_000,
    "a number of many digits": "[" + "9" * 5000 + "]",
    "no UUID": changed(usage_id="1"),
    "another id": changed(key_id="the key of an admin"),
    "a null": changed(instance_id=None),
    "a NUL": changed(model_id="a\0b"),
    "a tab": changed(model_id="a\tb"),
    "an escape": changed(operation="\\N"),
    "half a character": changed(model_id="\ud800"),
    "a long name": changed(model_id="m" * 256),
    "a float": changed(input_tokens=1.5),
    "a flag for a number": changed(input_tokens=True),
    "a number for a flag": changed(streamed=1),
    "less than nothing": changed(output_tokens=-1),
    "too much": changed(duration_ms=2**31),
    "too dear": changed(cost_micros=10**15 + 1),
    "no status": changed(status=0),
    "no instant": changed(ended_at=float("nan")),
    "an endless instant": changed(ended_at=float("inf")),
    "an instant in words": changed(ended_at="now"),
    "long ago": changed(ended_at=0),
    "far ahead": changed(ended_at=(NOW + timedelta(days=2)).timestamp()),
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
def test_a_line_that_cannot_be_counted_is_put_aside_and_the_others_are_counted(
    store: redis.Redis, stream: UsageStream, caplog: pytest.LogCaptureFixture, line: str | bytes
) -> None:
    good = usage().to_line().encode()
    bad = line if isinstance(line, bytes) else line.encode()
    tell_raw(store, good + b"\n" + bad)

    assert drain(stream, now=NOW) == Drained(entries=1, counted=1, rejected=1)

    aside = RejectedUsage.objects.get()
    assert (aside.ordinal, aside.rejected_at) == (2, NOW)
    assert aside.reason
    assert "ALARM: 1 lines of usage can't be counted" in caplog.text
    assert left(store) == 0


def test_an_entry_without_lines_is_put_aside(store: redis.Redis, stream: UsageStream) -> None:
    store.xadd(keys.USAGE, {"something": "else"})
    assert drain(stream, now=NOW) == Drained(entries=1, rejected=1)
    assert RejectedUsage.objects.get().reason == "no lines"


def test_what_is_put_aside_does_not_fill_the_database(store: redis.Redis, stream: UsageStream) -> None:
    for _ in range(3):
        tell_raw(store, "\n".join(["nonsense"] * 500))
    assert drain(stream, now=NOW).rejected == 1500
    tell_raw(store, "nonsense")
    drain(stream, now=NOW)
    assert RejectedUsage.objects.count() == 1000


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=5,
)


@st.composite
def almost_lines(draw: st.DrawFn) -> bytes:
    """A right line of which one to three values are anything at all."""
    fields = list(astuple(usage()))
    for at in draw(st.lists(st.integers(0, len(fields) - 1), min_size=1, max_size=3)):
        fields[at] = draw(ANYTHING)
    return json.dumps(fields).encode()


@given(lines=st.lists(almost_lines() | st.binary(), max_size=5))
@hypothesis_settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_line_whatsoever_holds_up_the_stream(store: redis.Redis, stream: UsageStream, lines: list[bytes]) -> None:
    tell_raw(store, b"\n".join(lines))
    tell(store, usage())
    assert drain(stream, now=NOW).counted >= 1
    assert left(store) == 0


# --- the sums -----------------------------------------------------------------------------------------------------

USAGES = st.builds(
    usage,
    usage_id=st.integers(0, 30).map(lambda number: uuid.UUID(int=number).hex),
    ended_at=st.integers(-7200, 3600).map(lambda seconds: NOW.timestamp() + seconds),
    key_id=st.sampled_from([KEY, OTHER_KEY]),
    model_id=st.sampled_from(["a", "b"]),
    operation=st.sampled_from(["chat", "embeddings"]),
    status=st.sampled_from([200, 499]),
    input_tokens=st.integers(0, 2**31 - 1),
    output_tokens=st.integers(0, 2**31 - 1),
    cached_tokens=st.integers(0, 2**31 - 1),
    estimated=st.booleans(),
    first_token_ms=st.integers(-1, 10_000),
    duration_ms=st.integers(0, 2**31 - 1),
    cost_micros=st.integers(0, 10**15),
)


@given(drains=st.lists(st.lists(st.lists(USAGES, min_size=1, max_size=8), max_size=4), max_size=3))
@hypothesis_settings(
    max_examples=60, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_hours_are_always_the_sums_of_the_rows(
    store: redis.Redis, stream: UsageStream, drains: list[list[list[Usage]]]
) -> None:
    UsageRecord.objects.all().delete()
    UsageHour.objects.all().delete()
    told: dict[str, Usage] = {}
    for entries in drains:
        for entry in entries:
            tell(store, *(told.setdefault(each.usage_id, each) for each in entry))
        drain(stream, now=NOW)

    assert UsageRecord.objects.count() == len(told)
    assert sums_of_hours() == sums_of_rows()
    tokens = UsageHour.objects.aggregate(all=Coalesce(Sum("input_tokens"), 0))["all"]
    assert tokens == sum(each.input_tokens for each in told.values())


GROUP = ("key_id", "model_id", "operation", "status")


def sums_of_rows() -> set[tuple[Any, ...]]:
    groups = UsageRecord.objects.order_by().annotate(hour=TruncHour("ended_at", tzinfo=UTC)).values_list("hour", *GROUP)
    return set(
        groups.annotate(
            requests=Count("pk"),
            estimates=Count("pk", filter=Q(estimated=True)),
            to_first=Coalesce(Sum("first_token_ms"), 0),
            firsts=Count("first_token_ms"),
            **{f"sum_{name}": Sum(name) for name in SUMS},
        )
    )


def sums_of_hours() -> set[tuple[Any, ...]]:
    return set(
        UsageHour.objects.values_list("hour", *GROUP, "requests", "estimated", "first_token_ms", "first_tokens", *SUMS)
    )


# --- how much at once ---------------------------------------------------------------------------------------------


def test_it_stops_after_so_many_rounds_and_goes_on_the_next_time(store: redis.Redis, stream: UsageStream) -> None:
    for _ in range(101):
        tell(store, *(usage() for _ in range(200)))

    drained = drain(stream, now=NOW, rounds=1)

    assert 10_000 <= drained.counted < 20_000
    assert left(store) == 101 - drained.entries
    assert drain(stream, now=NOW).counted == 20_200 - drained.counted


def test_an_empty_stream_takes_no_query(stream: UsageStream, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert drain(stream, now=NOW) == Drained()


@pytest.mark.django_db(transaction=True)
def test_the_clock_drains(store: redis.Redis) -> None:
    tell(store, usage(ended_at=datetime.now(UTC).timestamp()))
    tasks.drain_usage()
    assert UsageRecord.objects.count() == 1


# --- when a key was last used -------------------------------------------------------------------------------------


@pytest.fixture
def key() -> ApiKey:
    owner = User.objects.create(email="olga@example.com")
    return ApiKey.issue(owner_id=owner.pk, name="script", scopes=["inference"])[0]


def used_at(key: ApiKey) -> datetime | None:
    return ApiKey.objects.get(pk=key.pk).last_used_at


def test_a_key_says_when_it_was_last_used_to_the_minute(store: redis.Redis, stream: UsageStream, key: ApiKey) -> None:
    def use(at: datetime) -> None:
        tell(store, usage(key_id=str(key.pk), ended_at=at.timestamp()))
        drain(stream, now=NOW)

    assert used_at(key) is None
    use(NOW)
    assert used_at(key) == NOW
    use(NOW - timedelta(hours=1))
    use(NOW + timedelta(seconds=59))
    assert used_at(key) == NOW
    use(NOW + timedelta(seconds=61))
    assert used_at(key) == NOW + timedelta(seconds=61)


@pytest.mark.django_db(transaction=True)
def test_a_key_that_is_being_changed_keeps_nobody_waiting(store: redis.Redis, stream: UsageStream, key: ApiKey) -> None:
    tell(store, usage(key_id=str(key.pk)))
    done = threading.Event()

    def read() -> None:
        drain(stream, now=NOW)
        done.set()
        connection.close()

    with transaction.atomic():
        ApiKey.objects.select_for_update().get(pk=key.pk)
        thread = threading.Thread(target=read)
        thread.start()
        assert done.wait(timeout=10)
    thread.join(timeout=10)

    assert UsageHour.objects.get().requests == 1
    assert used_at(key) is None
