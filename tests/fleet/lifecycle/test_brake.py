"""Many machines that nobody claims at once are more likely our own fault: none goes before an operator has looked."""

from __future__ import annotations

import pytest

from fleet.lifecycle import brake
from fleet.models import Leak
from tests.fleet.lifecycle.reconciling import ELSEWHERE, HERE, leak_of, let_pass, place, stray, sweep_all, tags
from tests.fleet.stage import Stage


def approve(*leaks: Leak) -> None:
    Leak.objects.filter(pk__in=[leak.pk for leak in leaks]).update(approved_by="olga@example.com")


def test_as_many_as_the_setting_says_are_destroyed(stage: Stage) -> None:
    stray(stage, 5)

    let_pass(stage, 120)

    assert stage.cloud.is_empty


def test_one_more_and_none_is_but_all_are_recorded(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stray(stage, 6)

    let_pass(stage, 600, every=20)

    assert stage.cloud.destroyed == []
    assert Leak.objects.filter(ended_at=None, rental__kind="server").count() == 6
    assert "6 machines are nobody's here, more than 5 at once: an operator must approve" in caplog.text
    assert {leak.done for leak in Leak.objects.filter(rental__kind="server")} == {
        "6 machines are nobody's here, more than 5 at once: an operator must approve"
    }


def test_volumes_wait_behind_the_brake_too(stage: Stage) -> None:
    stray(stage, 6)
    stage.cloud.add_volume(HERE, tags(), volume_id="detached")

    let_pass(stage, 120)

    assert "detached" in stage.cloud.volumes


def test_another_place_is_not_braked(stage: Stage) -> None:
    stray(stage, 6)
    stray(stage, 2, at=ELSEWHERE)

    let_pass(stage, 120)

    assert len(stage.cloud.servers) == 6
    assert {view.handle.location for view in stage.cloud.servers.values()} == {HERE}


def test_few_everywhere_are_many_in_all(stage: Stage, settings: object) -> None:
    """A database from an old backup knows nothing of any place."""
    settings.RECONCILE_MAX_DESTROYS_IN_ALL = 7  # type: ignore[attr-defined]
    stray(stage, 4)
    stray(stage, 4, at=ELSEWHERE)
    sweep_all(stage)

    let_pass(stage, 120)

    assert stage.cloud.destroyed == []
    assert "8 machines are nobody's in all" in brake.on(account_id=None, zone_id=place().zone_id)


def test_it_comes_off_when_fewer_are_left(stage: Stage) -> None:
    first, *_ = stray(stage, 6)
    let_pass(stage, 120)
    assert len(stage.cloud.servers) == 6

    # By hand, in the provider's console; the sweep's own word for that is the ledger's.
    for resource in (first.handle.server_id, *first.handle.volume_ids):
        leak = leak_of(resource)
        leak.rental.until = stage.clock()
        leak.rental.save()
    del stage.cloud.servers[first.handle.server_id]
    del stage.cloud.volumes[first.handle.volume_ids[0]]
    let_pass(stage, 180)

    assert stage.cloud.is_empty


def test_an_approval_lets_all_go_that_it_names(stage: Stage) -> None:
    stray(stage, 6)
    let_pass(stage, 120)

    approve(*Leak.objects.all())
    let_pass(stage, 60)

    assert stage.cloud.is_empty


def test_an_approval_of_one_does_not_let_the_others_through(stage: Stage) -> None:
    first, *_ = stray(stage, 6)
    let_pass(stage, 120)

    approve(leak_of(first.handle.server_id))
    let_pass(stage, 600, every=20)

    assert first.handle.server_id not in stage.cloud.servers
    assert len(stage.cloud.servers) == 5


def test_a_destruction_that_was_begun_goes_on_when_the_brake_comes_on(stage: Stage) -> None:
    (begun,) = stray(stage)
    stage.cloud.stuck_deletes = 20
    let_pass(stage, 94)
    assert leak_of(begun.handle.server_id).steps

    stray(stage, 6)
    stage.cloud.stuck_deletes = 0
    let_pass(stage, 120)

    assert begun.handle.server_id not in stage.cloud.servers
    assert len(stage.cloud.servers) == 6
