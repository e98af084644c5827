from __future__ import annotations

from itertools import product

import pytest
from django.db import IntegrityError, transaction

from fleet.models import Instance, Transition
from fleet.states import DEFINITIONS, EDGES, FINAL, LIVE, Status
from tests.fleet.stage import OPERATOR, Stage


def test_every_state_has_a_definition() -> None:
    assert set(DEFINITIONS) == set(Status)
    assert set(Status) == LIVE | FINAL


def test_what_is_final_has_no_way_out() -> None:
    assert not [edge for edge in EDGES if edge[0] in FINAL]


@pytest.mark.parametrize(("old", "new"), sorted(product(Status, Status)))
def test_the_database_allows_the_same_edges_as_the_code(stage: Stage, old: Status, new: Status) -> None:
    instance = stage.deploy()
    reach(instance, old)

    def move() -> None:
        with transaction.atomic():
            terminated_at = stage.clock() if new == Status.TERMINATED else None
            Instance.objects.filter(pk=instance.pk).update(status=new, terminated_at=terminated_at)

    if (old, new) in EDGES or old == new:
        move()
    else:
        with pytest.raises(IntegrityError, match="no edge from"):
            move()


def test_the_history_refuses_an_edge_that_does_not_exist(stage: Stage) -> None:
    instance = stage.deploy()

    with pytest.raises(IntegrityError, match="transitions_edge_exists"), transaction.atomic():
        Transition.objects.create(
            instance=instance,
            from_status=Status.TERMINATED,
            to_status=Status.READY,
            reason="a miracle",
            actor="test",
            at=stage.clock(),
        )


def test_the_loser_of_a_race_writes_nothing(stage: Stage) -> None:
    instance = stage.deploy()
    slow = Instance.objects.get(pk=instance.pk)
    assert instance.move(Status.FAILED, reason="first", actor=OPERATOR.name, at=stage.clock())

    assert not slow.move(Status.BOOTING, reason="second", actor=OPERATOR.name, at=stage.clock())

    assert stage.moves(instance) == [Status.PROVISIONING, Status.FAILED]


def test_a_move_along_no_edge_is_a_mistake_of_ours(stage: Stage) -> None:
    with pytest.raises(ValueError, match="no edge"):
        stage.deploy().move(Status.READY, reason="too early", actor="test", at=stage.clock())


def reach(instance: Instance, status: Status) -> None:
    """By the shortest way that exists."""
    ways = {
        Status.PROVISIONING: [],
        Status.BOOTING: [Status.BOOTING],
        Status.READY: [Status.BOOTING, Status.READY],
        Status.DRAINING: [Status.DRAINING],
        Status.FAILED: [Status.FAILED],
        Status.TERMINATED: [Status.FAILED, Status.TERMINATED],
    }
    for step in ways[status]:
        terminated_at = instance.created_at if step == Status.TERMINATED else None
        Instance.objects.filter(pk=instance.pk).update(status=step, terminated_at=terminated_at)
