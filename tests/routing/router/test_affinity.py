from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from routing.discovery.records import Candidate, Target
from routing.discovery.snapshot import Crowd
from routing.router.choice.affinity import Ring, Rings, bound

KEYS = [b"conversation %d" % n for n in range(2000)]


def crowd(**members: float) -> Crowd:
    def candidate(instance_id: str, weight: float) -> Candidate:
        target = Target(instance_id=instance_id, ip="10.0.0.1", port=8000, api_key="", counted=False)
        return Candidate(target, load=10, capacity=0, weight=weight)

    return Crowd([candidate(*member) for member in members.items()], members)


def first(ring: Ring, key: bytes) -> str:
    return ring.after(key)[0]


def test_every_router_sends_a_conversation_to_the_same_instance() -> None:
    members = {f"i-{n}": 1.0 for n in range(20)}
    one, other = Ring(members), Ring(dict(reversed(members.items())))

    assert [one.after(key) for key in KEYS] == [other.after(key) for key in KEYS]


def test_conversations_are_spread() -> None:
    ring = Ring({f"i-{n}": 1.0 for n in range(8)})

    counts = Counter(first(ring, key) for key in KEYS)

    assert len(counts) == 8
    assert max(counts.values()) < 2 * len(KEYS) / 8


def test_an_instance_of_twice_the_weight_gets_about_twice_as_many() -> None:
    ring = Ring({"slow": 1.0, "fast": 2.0, **{f"i-{n}": 1.0 for n in range(8)}})

    counts = Counter(first(ring, key) for key in KEYS)

    assert counts["fast"] > counts["slow"]


def test_one_that_goes_moves_only_its_own_conversations() -> None:
    members = {f"i-{n}": 1.0 for n in range(10)}
    before = Ring(members)
    after = Ring({each: weight for each, weight in members.items() if each != "i-3"})

    moved = {key for key in KEYS if first(before, key) != first(after, key)}

    assert moved == {key for key in KEYS if first(before, key) == "i-3"}


@given(st.integers(0, 12), st.binary(max_size=40))
def test_the_next_ones_are_different_members(count: int, key: bytes) -> None:
    found = Ring({f"i-{n}": 1.0 for n in range(count)}).after(key)

    assert len(set(found)) == len(found) <= 3
    assert (count == 0) == (found == ())


def test_a_ring_is_kept_while_its_members_stay() -> None:
    rings, members = Rings(), crowd(a=1, b=1)

    assert rings.of("m", members) is rings.of("m", Crowd((), members.members))
    assert rings.of("m", members) is not rings.of("m", crowd(a=1))


def test_the_bound_is_a_quarter_above_the_mean_load() -> None:
    assert bound(crowd(a=1, b=1, c=1), in_flight=0) == 13  # 1.25 * 31 / 3


def test_the_bound_follows_a_burst_that_the_picture_does_not_show_yet() -> None:
    assert bound(crowd(a=1, b=1), in_flight=99) == 63


def test_a_nearly_idle_fleet_keeps_its_conversations() -> None:
    assert bound(Crowd((), {}), in_flight=0) == 4
