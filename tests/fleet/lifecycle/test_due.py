"""Who is woken when not all can be: what costs money for nothing first, and nobody never."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from fleet.lifecycle import due
from fleet.lifecycle.world import next_look
from fleet.models import Instance
from tests.fleet.stage import Stage


def ending(stage: Stage, *instances: Instance) -> set[UUID]:
    ids = {instance.pk for instance in instances}
    Instance.objects.filter(pk__in=ids).update(termination_requested_at=stage.clock(), next_attempt_at=stage.clock())
    return ids


def test_those_that_end_go_first_though_they_came_last(stage: Stage) -> None:
    fleet = [stage.deploy() for _ in range(3)]
    last = ending(stage, fleet[2])

    chosen = due.instances(stage.clock(), most=1)

    assert {*chosen.being_destroyed} == last
    assert chosen.rising == ()


def test_many_that_end_leave_room_for_some_that_rise(stage: Stage) -> None:
    fleet = [stage.deploy() for _ in range(9)]
    ending(stage, *fleet[:8])

    chosen = due.instances(stage.clock(), most=4)

    assert len(chosen.being_destroyed) == 3
    assert chosen.rising == (fleet[8].pk,)


def test_a_launch_that_was_begun_goes_on_before_another_begins(stage: Stage) -> None:
    waiting, begun = stage.deploy(), stage.deploy()
    Instance.objects.filter(pk=begun.pk).update(provider_instance_id="srv-1")

    assert [due.instances(stage.clock(), most=1).rising for _ in range(2)] == [(begun.pk,), (waiting.pk,)]


def test_what_there_was_no_room_for_is_chosen_next(stage: Stage) -> None:
    fleet = {stage.deploy().pk for _ in range(5)}

    seen = [due.instances(stage.clock(), most=2).rising for _ in range(4)]

    assert [len(chosen) for chosen in seen] == [2, 2, 1, 0]
    assert {pk for chosen in seen for pk in chosen} == fleet


def test_nobody_is_chosen_where_there_is_no_room(stage: Stage) -> None:
    instance = stage.deploy()

    assert due.instances(stage.clock(), most=0) == due.Instances(rising=(), being_destroyed=())
    assert due.instances(stage.clock(), most=1).rising == (instance.pk,)


def test_what_takes_long_is_looked_at_less_and_less_often_but_never_less_than_that(stage: Stage) -> None:
    since = now = stage.clock()
    gaps = []
    while now < since + timedelta(hours=1):
        gaps.append(next_look(now, since=since) - now)
        now += gaps[-1]

    assert gaps[:5] == [timedelta(seconds=1)] * 5
    assert timedelta(seconds=55) < sum(gaps[:19], timedelta()) < timedelta(seconds=80)
    assert max(gaps) == timedelta(seconds=15)
