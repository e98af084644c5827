from __future__ import annotations

from routing.discovery.records import Candidate, Target
from routing.router.choice.balancer import Resting, RetryBudget, least_busy


def candidate(instance_id: str, *, weight: float = 1.0) -> Candidate:
    target = Target(instance_id=instance_id, ip="10.0.0.1", port=8000, api_key="", counted=False)
    return Candidate(target, load=0, capacity=0, weight=weight)


A, B, C = candidate("a"), candidate("b"), candidate("c")


def test_it_takes_the_one_with_the_fewest_of_our_requests() -> None:
    chosen = least_busy([A, B, C], in_flight={"a": 2, "b": 1, "c": 3}, excluded=(), draw=lambda n: 0)

    assert chosen is B


def test_a_faster_one_may_have_more() -> None:
    fast = candidate("fast", weight=3)

    assert least_busy([A, fast], in_flight={"a": 1, "fast": 3}, excluded=(), draw=lambda n: 0) is fast


def test_it_breaks_ties_by_the_draw() -> None:
    first = least_busy([A, B, C], in_flight={}, excluded=("b",), draw=lambda n: 0)
    last = least_busy([A, B, C], in_flight={}, excluded=("b",), draw=lambda n: n - 1)

    assert (first, last) == (A, C)


def test_it_takes_none_where_all_are_excluded() -> None:
    assert least_busy([A], in_flight={}, excluded=("a",), draw=lambda n: 0) is None
    assert least_busy([], in_flight={}, excluded=(), draw=lambda n: 0) is None


def test_what_rests_is_spared_for_some_seconds() -> None:
    resting = Resting()

    resting.add("a", now=100)

    assert resting.at(104.9) == ("a",)
    assert resting.at(105.1) == ()


def test_no_more_than_a_set_number_rest() -> None:
    resting = Resting()
    for n in range(100):
        resting.add(str(n), now=100)

    assert resting.at(100) == tuple(str(n) for n in range(68, 100))


def test_what_an_engine_had_is_tried_again_for_a_share_of_the_requests_only() -> None:
    budget = RetryBudget(share=0.25, at_most=2)

    assert [budget.spend() for _ in range(3)] == [True, True, False]
    for _ in range(4):
        budget.earn()
    assert [budget.spend() for _ in range(2)] == [True, False]
