"""What nobody claims is found and destroyed; what somebody claims never is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from fleet.lifecycle import leaks, places, sweep
from fleet.models import Attempt, Leak, Outcome, Rental, Sweep
from fleet.providers.base import (
    ABSENT,
    Absent,
    AmbiguousOutcome,
    AuthError,
    Destruction,
    Handle,
    ProviderError,
    ServerSpec,
    ServerView,
    Unavailable,
)
from fleet.states import Status
from tests.fleet.lifecycle.reconciling import HERE, leak_of, let_pass, place, stray, sweep_all, tags, tick
from tests.fleet.lifecycle.test_termination import end
from tests.fleet.stage import Stage

# --- found, and destroyed ---------------------------------------------------------------------------------------------


def test_an_unowned_machine_is_found_and_destroyed_within_120_seconds(stage: Stage) -> None:
    tick(stage)
    stray(stage)  # a moment after the listing: the worst case

    let_pass(stage, 120)

    assert stage.cloud.is_empty
    assert Leak.objects.filter(ended_at=None).count() == 0


def test_it_is_found_first_and_destroyed_after_a_grace(stage: Stage) -> None:
    (server,) = stray(stage)
    sweep_all(stage)
    leak = leak_of(server.handle.server_id)

    leaks.collect(leak.pk, stage.world)  # a stray message
    stage.clock.forward(seconds=29)
    leaks.collect(leak.pk, stage.world)
    assert stage.cloud.destroyed == []
    assert "there is no attempt" in leak.reason

    stage.clock.forward(seconds=1)
    leaks.collect(leak.pk, stage.world)
    assert stage.cloud.servers == {}


def test_the_ledger_has_what_it_cost_from_its_creation_to_its_confirmed_absence(stage: Stage) -> None:
    since = stage.clock()
    server = stage.cloud.add_server(HERE, tags(), instance_type="LARGE")
    stage.clock.forward(minutes=30)
    sweep_all(stage)
    rental = Rental.objects.get(resource_id=server.handle.server_id)
    assert (rental.since, rental.until, rental.price_per_hour, rental.currency) == (since, None, Decimal(3), "EUR")
    assert rental.attempt is None

    stage.clock.forward(minutes=30)
    assert rental.cost(stage.clock()) == Decimal(3)
    tick(stage)
    rental.refresh_from_db()
    assert rental.until is None  # asked, and not yet said to be gone

    stage.clock.forward(seconds=1)
    tick(stage)
    rental.refresh_from_db()
    volume = Rental.objects.get(kind="volume")
    assert rental.until == stage.clock()
    assert (volume.price_per_hour, volume.since, volume.until) == (Decimal("0.01"), since, stage.clock())


def test_a_volume_and_an_address_that_outlived_their_machine_are_destroyed(stage: Stage) -> None:
    stage.cloud.add_volume(HERE, tags(), volume_id="left-behind")
    stage.cloud.add_ip(HERE, tags(), ip_id="forgotten")
    sweep_all(stage)

    let_pass(stage, 40)

    assert stage.cloud.is_empty
    assert {rental.resource_id for rental in Rental.objects.exclude(until=None)} == {"left-behind", "forgotten"}


def test_a_machine_of_ours_without_an_attempt_is_nobodys(stage: Stage) -> None:
    unlabelled = {key: value for key, value in tags().items() if key != "inv-attempt"}
    server = stage.cloud.add_server(HERE, unlabelled)

    sweep_all(stage)

    assert leak_of(server.handle.server_id).reason == "its tags name no attempt"


def test_only_the_providers_own_word_ends_it_however_long_that_takes(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    (server,) = stray(stage)
    sweep_all(stage)
    stage.cloud.stuck_deletes = 10_000

    for _ in range(7 * 24):
        stage.clock.forward(hours=1)
        tick(stage)

    leak = leak_of(server.handle.server_id)
    assert leak.ended_at is None
    assert leak.steps == 7 * 24
    assert leak.rental.until is None
    assert "ALARM" in caplog.text
    stage.cloud.stuck_deletes = 0
    let_pass(stage, 120)
    assert stage.cloud.is_empty


def test_the_alarm_begins_after_a_quarter_of_an_hour(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stray(stage)
    sweep_all(stage)
    stage.cloud.stuck_deletes = 10_000

    let_pass(stage, 14 * 60, every=20)
    assert "ALARM" not in caplog.text
    let_pass(stage, 3 * 60, every=20)
    assert "ALARM" in caplog.text


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_what_an_instance_has_is_left_alone(stage: Stage) -> None:
    stage.ready()

    let_pass(stage, 600, every=10)

    assert Leak.objects.count() == 0
    assert len(stage.cloud.servers) == 1


def test_a_machine_whose_create_was_never_answered_is_its_attempts(stage: Stage) -> None:
    stage.cloud.lose_answers = 1
    instance = stage.step(stage.deploy())
    assert instance.attempts.get().server_id == ""

    sweep_all(stage)

    assert Leak.objects.count() == 0


def test_a_machine_made_while_the_sweep_lists_is_seen_with_its_row(stage: Stage) -> None:
    """Cloud first, then the rows: an attempt that is committed during the listing claims what the listing has."""
    instance = stage.deploy()

    def launch_in_the_middle(call: str) -> None:
        if call == "ensure_server":
            stage.cloud.on_call = lambda call: None
            sweep_all(stage)  # listed before the create: nothing there
        if call == "configure":
            sweep_all(stage)  # listed after it

    stage.cloud.on_call = launch_in_the_middle
    stage.step(instance)

    assert instance.status == Status.BOOTING
    assert Leak.objects.count() == 0


def test_rows_are_read_after_the_listing(stage: Stage) -> None:
    """An attempt may be committed, and its machine made, between the two: the listing must be the earlier one."""
    row: list[Attempt] = []
    instance = stage.step(stage.deploy())
    attempt = instance.attempts.get()
    Attempt.objects.filter(pk=attempt.pk).update(outcome=Outcome.REJECTED)

    def commit_now(call: str) -> None:
        if call == "list_owned":
            Attempt.objects.filter(pk=attempt.pk).update(outcome=Outcome.CREATED)
            row.append(attempt)

    stage.cloud.on_call = commit_now
    sweep_all(stage)

    assert row
    assert Leak.objects.count() == 0


def test_a_create_that_was_paused_until_its_attempt_was_over_is_collected(stage: Stage) -> None:
    instance = stage.deploy()
    paused: list[ServerSpec] = []
    ensure_server = stage.cloud.ensure_server

    def pause(spec: ServerSpec) -> ServerView:
        paused.append(spec)
        raise Unavailable("paused here for two hours")

    stage.cloud.ensure_server = pause  # type: ignore[method-assign]
    stage.step(instance)
    stage.cloud.ensure_server = ensure_server  # type: ignore[method-assign]
    end(stage, instance)
    stage.step(instance, times=3)
    assert instance.status == Status.TERMINATED

    late = ensure_server(paused[0])
    let_pass(stage, 120)

    assert stage.cloud.is_empty
    leak = leak_of(late.handle.server_id)
    assert leak.reason == "its attempt is over (rejected)"
    assert leak.rental.attempt == instance.attempts.get()


def test_a_second_machine_of_one_attempt_is_collected_and_the_first_is_not(stage: Stage) -> None:
    instance = stage.ready()
    attempt = instance.attempts.get()
    second = stage.cloud.add_server(HERE, tags(attempt.pk))

    let_pass(stage, 120)

    assert set(stage.cloud.servers) == {attempt.server_id}
    assert set(stage.cloud.volumes) == set(attempt.volume_ids)
    assert "another machine" in leak_of(second.handle.server_id).reason


def test_the_end_of_an_attempt_does_not_end_the_costs_of_its_second_machine(stage: Stage) -> None:
    instance = stage.ready()
    second = stage.cloud.add_server(HERE, tags(instance.attempts.get().pk))
    sweep_all(stage)

    end(stage, instance, drain=False)
    stage.step(instance, times=4)

    assert instance.status == Status.TERMINATED
    assert leak_of(second.handle.server_id).rental.until is None


def test_a_leak_that_is_claimed_after_all_is_not_destroyed(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    attempt = instance.attempts.get()
    Attempt.objects.filter(pk=attempt.pk).update(outcome=Outcome.REJECTED)
    sweep_all(stage)
    leak = leak_of(attempt.server_id)

    Attempt.objects.filter(pk=attempt.pk).update(outcome=Outcome.CREATED)
    let_pass(stage, 60)

    leak.refresh_from_db()
    assert leak.done == "claimed after all"
    assert leak.ended_at is not None
    assert leak.rental.until is None
    assert stage.cloud.destroyed == []


def test_what_a_row_claims_that_came_after_the_tag_was_lost_goes_to_its_attempt_with_its_costs(stage: Stage) -> None:
    instance = stage.step(stage.deploy())
    attempt = instance.attempts.get()
    (server,) = stray(stage)
    sweep_all(stage)

    Attempt.objects.filter(pk=attempt.pk).update(server_id=server.handle.server_id)
    let_pass(stage, 90)

    leak = leak_of(server.handle.server_id)
    assert leak.done == "claimed after all"
    assert leak.rental.attempt == attempt
    assert Leak.objects.filter(rental__resource_id=server.handle.server_id, ended_at=None).count() == 0


def test_two_installations_in_one_account_do_not_touch_each_other(stage: Stage) -> None:
    theirs = stage.cloud.add_server(HERE, tags(owner="another"))
    stage.cloud.add_ip(HERE, tags(owner="another"), ip_id="theirs")
    instance = stage.ready()

    let_pass(stage, 180)

    assert set(stage.cloud.servers) == {theirs.handle.server_id, instance.provider_instance_id}
    assert "theirs" in stage.cloud.ips
    assert Leak.objects.count() == 0


# --- what is late, stale or untrue ------------------------------------------------------------------------------------


def test_a_listing_from_before_a_machines_end_makes_no_leak(stage: Stage) -> None:
    instance = stage.ready()
    end(stage, instance, drain=False)

    def terminate_meanwhile(call: str) -> None:
        if call == "list_owned":
            stage.cloud.on_call = lambda call: None
            stage.clock.forward(seconds=1)
            stage.step(instance, times=4)

    places.refresh(stage.clock())
    stage.cloud.on_call = terminate_meanwhile
    sweep.sweep(place().pk, stage.world)

    assert instance.status == Status.TERMINATED
    assert Leak.objects.count() == 0


def test_what_is_listed_again_long_after_it_was_said_to_be_gone_leaks_again(stage: Stage) -> None:
    (server,) = stray(stage)
    sweep_all(stage)
    let_pass(stage, 60)
    assert leak_of(server.handle.server_id).ended_at is not None

    stage.cloud.servers[server.handle.server_id] = server
    let_pass(stage, 62)

    leak = leak_of(server.handle.server_id)
    assert (leak.ended_at, leak.rental.until, leak.steps) == (None, None, 0)
    let_pass(stage, 60)
    assert stage.cloud.is_empty


def test_the_ledgers_rows_of_a_closed_attempt_are_followed_until_they_are_gone(stage: Stage) -> None:
    """An untagged disk is in no listing, but the ledger says that it bills."""
    instance = stage.ready()
    end(stage, instance, drain=False)
    stage.step(instance, times=4)
    volume = Rental.objects.get(kind="volume")
    Rental.objects.filter(pk=volume.pk).update(until=None)
    stage.cloud.add_volume(HERE, {}, volume_id=volume.resource_id)

    let_pass(stage, 60)

    volume.refresh_from_db()
    assert volume.until is not None
    assert stage.cloud.is_empty


def test_a_volume_that_hangs_on_an_unowned_machine_goes_after_it(stage: Stage) -> None:
    (server,) = stray(stage)
    stage.cloud.stuck_deletes = 3
    sweep_all(stage)

    let_pass(stage, 60)

    assert stage.cloud.is_empty
    machine, volume = leak_of(server.handle.server_id), leak_of(server.handle.volume_ids[0])
    assert machine.rental.until is not None
    assert volume.steps == 0
    assert volume.done == "gone, with the machine that it hung on"
    assert all(handle.server_id for handle in stage.cloud.destroyed)


def test_a_volume_that_a_live_attempt_holds_does_not_go_with_an_unowned_machine(stage: Stage) -> None:
    instance = stage.ready()
    held = instance.attempts.get().volume_ids[0]
    stage.cloud.volumes[held] = replace(stage.cloud.volumes[held], server_id="")  # or the cloud itself would refuse
    (server,) = stray(stage)
    handle = replace(server.handle, volume_ids=(*server.handle.volume_ids, held))
    stage.cloud.servers[server.handle.server_id] = replace(server, handle=handle)

    let_pass(stage, 120)

    assert set(stage.cloud.servers) == {instance.provider_instance_id}
    assert set(stage.cloud.volumes) == {held}
    assert Rental.objects.get(resource_id=held).until is None


def test_an_address_written_down_late_does_not_reopen_the_ledger_of_a_closed_attempt(stage: Stage) -> None:
    """A worker is paused between the provider's answer and the ledger, until all of it is over."""
    instance = stage.deploy()
    get = stage.cloud.get

    def paused_after_the_answer(handle: Handle) -> ServerView | Absent:
        view = get(handle)
        assert view is not ABSENT
        address = stage.cloud.add_ip(HERE, tags(), ip_id="came-with-power-on")
        del stage.cloud.ips[address.id]  # and goes with the machine
        stage.cloud.get = get  # type: ignore[method-assign]
        stage.clock.forward(hours=2)
        end(stage, instance, drain=False)
        stage.step(instance, times=4)
        return replace(view, attachments=(*view.attachments, address))

    stage.cloud.get = paused_after_the_answer  # type: ignore[method-assign]
    stage.step(instance)

    assert instance.status == Status.TERMINATED
    assert Rental.objects.filter(until=None).count() == 0


@pytest.mark.parametrize(
    "error", [AmbiguousOutcome("500"), AuthError("401"), Unavailable("no route")], ids=["500", "401", "no route"]
)
def test_an_hour_of_errors_marks_nothing_and_passes_by_itself(
    stage: Stage, error: ProviderError, caplog: pytest.LogCaptureFixture
) -> None:
    instance = stage.ready()
    (server,) = stray(stage)
    sweep_all(stage)

    stage.cloud.outage = error
    let_pass(stage, 3600, every=30)
    leak = leak_of(server.handle.server_id)
    assert leak.ended_at is None
    assert leak.rental.until is None
    assert error.code in leak.last_error
    assert error.code in place().last_error
    assert "ALARM" in caplog.text
    assert instance.attempts.get().missed_listings == 0
    assert instance.status == Status.READY

    stage.cloud.outage = None
    let_pass(stage, 120)
    assert set(stage.cloud.servers) == {instance.provider_instance_id}
    assert [handle.server_id for handle in stage.cloud.destroyed].count(server.handle.server_id) == 2  # it, its volume
    assert place().last_error == ""


def test_what_is_over_is_not_destroyed_twice(stage: Stage) -> None:
    (server,) = stray(stage)
    sweep_all(stage)
    let_pass(stage, 60)
    asked = len(stage.cloud.destroyed)

    leaks.collect(leak_of(server.handle.server_id).pk, stage.world)
    let_pass(stage, 300)

    assert len(stage.cloud.destroyed) == asked


# --- two at once ------------------------------------------------------------------------------------------------------


def test_a_sweeper_that_was_paused_past_its_lease_writes_nothing(stage: Stage) -> None:
    stage.ready()
    places.refresh(stage.clock())
    pk = place().pk

    def pause(call: str) -> None:
        if call == "list_owned":
            stage.cloud.on_call = lambda call: None
            stray(stage)
            stage.clock.forward(hours=2)
            sweep.sweep(pk, stage.world)

    stage.cloud.on_call = pause
    sweep.sweep(pk, stage.world)

    assert place().swept_at == stage.clock()
    assert Leak.objects.filter(rental__kind="server").count() == 1


def test_a_place_is_swept_by_one_worker_and_not_again_for_a_doubled_message(stage: Stage) -> None:
    calls: list[str] = []
    stage.cloud.on_call = calls.append
    places.refresh(stage.clock())
    pk = place().pk
    held = Sweep.lease(pk, now=stage.clock(), seconds=90)
    assert held is not None
    sweep.sweep(pk, stage.world)
    assert calls == []

    held.release(due=stage.clock())
    sweep.sweep_if_due(pk, stage.world)
    sweep.sweep_if_due(pk, stage.world)
    assert calls == ["list_owned"]


def test_a_collector_that_was_paused_past_its_lease_does_not_count(stage: Stage) -> None:
    (server,) = stray(stage)
    sweep_all(stage)
    leak = leak_of(server.handle.server_id)
    stage.clock.forward(seconds=30)
    destroy_step = stage.cloud.destroy_step

    def paused_after_the_answer(handle: Handle) -> Destruction:
        answer = destroy_step(handle)
        stage.cloud.destroy_step = destroy_step  # type: ignore[method-assign]
        stage.clock.forward(hours=2)
        leaks.collect(leak.pk, stage.world)
        return answer

    stage.cloud.destroy_step = paused_after_the_answer  # type: ignore[method-assign]
    leaks.collect(leak.pk, stage.world)

    leak.refresh_from_db()
    assert leak.steps == 2
    assert leak.done == "gone, by the provider's word (step 2)"


def test_an_approval_in_the_middle_of_a_step_is_not_lost(stage: Stage) -> None:
    (server,) = stray(stage)
    sweep_all(stage)
    held = Leak.lease(leak_of(server.handle.server_id).pk, now=stage.clock(), seconds=90)
    assert held is not None

    Leak.objects.filter(pk=held.pk).update(approved_by="olga", next_attempt_at=stage.clock())
    held.release(due=stage.clock() + timedelta(hours=1))

    held.refresh_from_db()
    assert held.next_attempt_at == stage.clock()
    assert held.approved_by == "olga"
