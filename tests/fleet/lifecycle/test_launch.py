from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from catalog.models import InstanceAvailability
from fleet.lifecycle.advance import take_step
from fleet.models import Instance, Outcome
from fleet.providers.base import (
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Ingress,
    InvalidSpec,
    QuotaError,
    ServerState,
    Throttled,
    Unavailable,
)
from fleet.states import Status
from tests.fleet.stage import OPERATOR, Stage


def offers_tried(instance: Instance) -> list[tuple[str, str, str]]:
    return list(instance.attempts.values_list("instance_type__name", "zone__name", "error_code"))


def test_it_brings_the_cheapest_machine_up(stage: Stage) -> None:
    instance = stage.step(stage.deploy())

    assert instance.status == Status.BOOTING
    assert (instance.instance_type.name, instance.zone.name) == ("SMALL", "eu-1")
    assert instance.ip_address == "10.0.0.1"
    assert instance.provider_instance_id == "srv-1"
    assert stage.moves(instance) == [Status.PROVISIONING, Status.BOOTING]


def test_it_commits_the_attempt_before_the_provider_is_asked_and_the_ids_before_power_on(stage: Stage) -> None:
    instance = stage.deploy()
    seen: dict[str, tuple[bool, str]] = {}

    def look(call: str) -> None:
        attempt = instance.attempts.get()
        seen.setdefault(call, (attempt.asked_at is not None, attempt.server_id))

    stage.cloud.on_call = look
    stage.step(instance)

    assert seen["ensure_server"] == (True, "")
    assert seen["start"] == (True, "srv-1")


def test_its_machine_is_told_no_secret_but_the_bootstrap_token(stage: Stage) -> None:
    instance = stage.step(stage.deploy())

    engine_key = stage.register(instance)
    told = stage.cloud.user_data["srv-1"]

    assert engine_key not in told
    json.loads(told.removeprefix("#cloud-config\n"))


@pytest.mark.parametrize("call", ["ensure_server", "start"])
def test_it_takes_the_next_zone_when_one_has_no_capacity(stage: Stage, call: str) -> None:
    stage.cloud.fail_next(call, CapacityError("none left"))

    instance = stage.step(stage.deploy(), times=5)

    assert offers_tried(instance) == [("SMALL", "eu-1", "capacity"), ("SMALL", "eu-2", "")]
    assert instance.status == Status.BOOTING
    assert len(stage.cloud.servers) == 1


def test_it_skips_the_type_everywhere_after_a_quota_error(stage: Stage) -> None:
    stage.cloud.fail_next("ensure_server", QuotaError("0 of 0 GPUs"))

    instance = stage.step(stage.deploy(), times=2)

    assert offers_tried(instance) == [("SMALL", "eu-1", "quota"), ("LARGE", "eu-1", "")]
    assert instance.price_per_hour == 3


def test_it_fails_with_every_refusal_in_the_reason_when_no_offer_is_left(stage: Stage) -> None:
    stage.cloud.fail_next("ensure_server", *[CapacityError("none left")] * 4)

    instance = stage.step(stage.deploy(), times=6)

    assert stage.moves(instance) == [Status.PROVISIONING, Status.FAILED, Status.TERMINATED]
    reason = instance.transitions.get(to_status=Status.FAILED).reason
    assert "SMALL in eu-2: capacity" in reason
    assert "LARGE in eu-2: capacity" in reason


def test_one_that_waits_for_stock_says_until_when(stage: Stage) -> None:
    sell_out(stage)

    waiting = stage.step(stage.deploy())

    assert waiting.status == Status.PROVISIONING
    until = waiting.next_attempt_at
    assert until is not None
    assert waiting.status_reason == (
        f"every offer that is left was refused a moment ago; next try at {until:%H:%M:%S} UTC"
    )


def test_one_that_waited_in_vain_says_for_what(stage: Stage) -> None:
    sell_out(stage)
    waiting = stage.step(stage.deploy())

    stage.clock.forward(minutes=16)
    stage.step(waiting)

    failed = waiting.transitions.get(to_status=Status.FAILED)
    assert "last: every offer that is left was refused" in failed.reason


@pytest.mark.parametrize("error", [AuthError("bad key"), InvalidSpec("no such image")])
def test_it_stops_at_an_error_that_no_other_offer_can_mend(stage: Stage, error: Exception) -> None:
    stage.cloud.fail_next("ensure_server", error)  # type: ignore[arg-type]

    instance = stage.step(stage.deploy())

    assert instance.status == Status.FAILED
    assert instance.attempts.count() == 1


@pytest.mark.parametrize(("error", "failures"), [(Throttled("slow down"), 0), (Unavailable("no route"), 1)])
def test_it_repeats_the_same_offer_later_when_nothing_was_changed(
    stage: Stage, error: Exception, failures: int
) -> None:
    stage.cloud.listing_lag = timedelta(seconds=120)  # no reason to wait: that nothing was made is clear
    stage.cloud.fail_next("ensure_server", error)  # type: ignore[arg-type]
    instance = stage.step(stage.deploy())
    assert instance.failures == failures
    assert instance.next_attempt_at is not None
    assert instance.next_attempt_at > stage.clock()

    stage.step(instance)

    assert instance.status == Status.BOOTING
    assert instance.attempts.count() == 1


def test_a_lost_answer_makes_no_second_machine(stage: Stage) -> None:
    stage.cloud.lose_answers = 1

    instance = stage.step(stage.deploy(), times=2)

    assert stage.cloud.created == ["srv-1"]
    assert instance.status == Status.BOOTING


def test_a_lost_answer_with_lagging_listings_is_settled_before_anything_else_is_asked(stage: Stage) -> None:
    stage.cloud.listing_lag = timedelta(seconds=120)
    stage.cloud.lose_answers = 1
    instance = stage.step(stage.deploy(), times=2)
    calls: list[str] = []
    stage.cloud.on_call = calls.append

    stage.clock.forward(seconds=60)
    stage.step(instance)
    assert set(calls) == {"find_attempt"}

    stage.clock.forward(seconds=61)
    stage.step(instance)
    assert stage.cloud.created == ["srv-1"]
    assert instance.status == Status.BOOTING


def test_a_create_that_never_happened_is_repeated_once_that_is_settled(stage: Stage) -> None:
    stage.cloud.listing_lag = timedelta(seconds=120)
    stage.cloud.fail_next("ensure_server", AmbiguousOutcome("connection reset"))
    instance = stage.step(stage.deploy())

    stage.clock.forward(seconds=121)
    stage.step(instance)

    assert stage.cloud.created == ["srv-1"]
    assert instance.status == Status.BOOTING


def test_an_orchestrator_that_died_after_the_create_finds_its_machine_again(stage: Stage) -> None:
    class Killed(BaseException):
        pass

    def kill(call: str) -> None:
        if call == "configure":
            raise Killed

    instance = stage.deploy()
    stage.cloud.on_call = kill
    with pytest.raises(Killed):
        take_step(instance.pk, stage.world)
    stage.cloud.on_call = lambda call: None
    assert stage.step(instance).status == Status.PROVISIONING  # the dead one's lease still holds

    stage.clock.forward(seconds=91)
    stage.step(instance)

    assert instance.status == Status.BOOTING
    assert stage.cloud.created == ["srv-1"]


def test_it_gives_up_when_no_machine_runs_in_time(stage: Stage) -> None:
    stage.cloud.fail_next("start", *[Unavailable("no route")] * 50)
    instance = stage.step(stage.deploy())

    stage.clock.forward(minutes=16)
    stage.step(instance)

    assert instance.status == Status.FAILED
    assert "no route" in instance.status_reason


def test_an_end_that_is_asked_for_meanwhile_stops_the_launch(stage: Stage) -> None:
    from fleet import commands

    instance = stage.deploy()
    stage.cloud.fail_next("start", Unavailable("no route"))
    stage.step(instance)
    commands.request_termination(instance.pk, actor=OPERATOR, reason="changed my mind", now=stage.clock())

    stage.step(instance, times=4)

    assert stage.moves(instance) == [Status.PROVISIONING, Status.DRAINING, Status.TERMINATED]
    assert stage.cloud.servers == {}


def test_a_machine_that_is_slow_to_start_is_waited_for(stage: Stage) -> None:
    instance = stage.deploy()
    start = stage.cloud.start
    stage.cloud.start = lambda handle: stage.cloud.set_state(handle.server_id, ServerState.STARTING)  # type: ignore[method-assign]
    stage.step(instance, times=2)
    assert instance.status == Status.PROVISIONING
    assert instance.attempts.get().outcome == Outcome.CREATED

    start(instance.attempts.get().handle(next(iter(stage.cloud.servers.values())).handle.location))
    stage.step(instance)

    assert instance.status == Status.BOOTING


def test_only_routers_reach_the_engine_and_only_operators_the_shell(stage: Stage, settings: Any) -> None:
    settings.ROUTER_CIDRS, settings.SSH_CIDRS = ["203.0.113.7/32", "203.0.113.8/32"], ["198.51.100.0/24"]

    instance = stage.step(stage.deploy())

    assert stage.cloud.specs[0].ingress == (
        Ingress(instance.port, "203.0.113.7/32"),
        Ingress(instance.port, "203.0.113.8/32"),
        Ingress(22, "198.51.100.0/24"),
    )


def test_nobody_reaches_a_machine_where_nobody_is_named(stage: Stage) -> None:
    stage.step(stage.deploy())

    assert stage.cloud.specs[0].ingress == ()


def sell_out(stage: Stage) -> None:
    """What every other instance was told of late."""
    InstanceAvailability.objects.update(last_stockout_at=stage.clock())
