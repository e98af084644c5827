"""What carries our tags and nobody claims is found and destroyed; what is another's is not touched."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.models import Leak, Rental
from tests.fleet.end_to_end.bills import assert_the_ledger_is_the_bill
from tests.fleet.end_to_end.stage import WiredStage

FOUND_AND_GONE = 120  # seconds


def test_a_server_that_nobody_claims_is_destroyed_with_all_that_hangs_on_it(stage: WiredStage) -> None:
    server_id = stage.cloud.rent(stage.tags())
    stage.let_pass(2)  # swept

    leak = Leak.objects.get(rental__resource_id=server_id)
    assert leak.ended_at is None
    assert stage.billed("server") == [server_id]
    stage.let_pass(FOUND_AND_GONE)

    assert stage.billed() == []
    assert not Leak.objects.filter(ended_at=None).exists()
    assert_the_ledger_is_the_bill(stage)


def test_a_server_that_runs_and_is_nobodys_is_destroyed_with_its_address(stage: WiredStage) -> None:
    server_id = stage.cloud.rent(stage.tags(), running=True)
    stage.cloud.pass_time(10)
    assert len(stage.billed("ip")) == 1

    stage.let_pass(FOUND_AND_GONE)

    assert stage.billed() == []
    until = {rental.kind: rental.until for rental in Rental.objects.all() if rental.until}
    assert Rental.objects.get(kind="server").resource_id == server_id
    # The address goes with the machine, not before it: asked for at once then, and gone by the cloud's own word.
    assert until["server"] <= until["ip"] <= until["server"] + timedelta(seconds=1)
    assert until["server"] <= until["volume"]


@pytest.mark.parametrize("kind", ["volume", "ip"])
def test_a_volume_or_an_address_that_nobody_claims_is_destroyed(stage: WiredStage, kind: str) -> None:
    make = stage.cloud.rent_volume if kind == "volume" else stage.cloud.rent_address
    resource_id = make(stage.tags())
    stage.let_pass(2)
    assert stage.billed(kind) == [resource_id]

    stage.let_pass(FOUND_AND_GONE)

    assert stage.billed() == []
    assert Leak.objects.get().rental.resource_id == resource_id
    assert Leak.objects.get().ended_at is not None


def test_what_is_anothers_is_not_touched(stage: WiredStage) -> None:
    theirs = {
        stage.cloud.rent({"owner": "somebody else"}),
        stage.cloud.rent(stage.tags(owner="another-installation")),
        stage.cloud.rent_volume(stage.tags(owner="another-installation")),
        stage.cloud.rent_volume({}),
        stage.cloud.rent_address(stage.tags(owner="another-installation")),
    }

    stage.let_pass(FOUND_AND_GONE, every=5)

    assert theirs <= set(stage.billed())
    assert not Rental.objects.exists()


@pytest.mark.parametrize("cloud", ["scaleway"], indirect=True)
def test_a_volume_that_outlives_its_server_is_destroyed(stage: WiredStage) -> None:
    """Somebody ends our machine with the console. The disk of a Scaleway machine stays; that of an AWS one goes."""
    instance = stage.serve(stage.order())
    assert instance.provider_instance_id

    stage.cloud.remove_server(instance.provider_instance_id)
    assert [len(stage.billed(kind)) for kind in ("server", "volume")] == [0, 1]
    stage.let_pass(180, every=2)

    instance.refresh_from_db()
    assert instance.status == "TERMINATED"
    assert stage.billed() == []
    assert not Rental.objects.filter(until=None).exists()
