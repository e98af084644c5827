"""What every provider's driver must do, as claims. A provider's test class inherits them and gives the fixture `cloud`.

The fixture is a `Cloud`: the driver, and the ways in which its (simulated) cloud can be watched and made to misbehave.
"""

from __future__ import annotations

import enum
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol

import pytest

from fleet.providers.base import (
    ABSENT,
    TAG_ATTEMPT,
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Conflict,
    Handle,
    InvalidSpec,
    Location,
    NotFound,
    Provider,
    ProviderError,
    QuotaError,
    ServerSpec,
    ServerState,
    ServerView,
    SshKeySpec,
    Stock,
    Throttled,
    Unavailable,
    Verdict,
)
from tests.fleet.providers.waiting import eventually

USER_DATA = "#cloud-config\n{}\n"
OWNER = "inventiv"  # the default of ServerSpec


class Fault(enum.StrEnum):
    """What may come back instead of an answer."""

    UNAUTHORIZED = "401"
    FORBIDDEN = "403"
    CONFLICT = "409"
    THROTTLED = "429 with an empty body"
    BAD_GATEWAY = "502 with HTML"
    HANG = "nothing, until the time-out"
    UNREACHABLE = "connection refused"
    QUOTA = "quota"  # of creates only


_AT_ANY_CALL: dict[Fault, type[ProviderError]] = {
    Fault.UNAUTHORIZED: AuthError,
    Fault.FORBIDDEN: AuthError,
    Fault.THROTTLED: Throttled,
    Fault.BAD_GATEWAY: Unavailable,
    Fault.HANG: Unavailable,
    Fault.UNREACHABLE: Unavailable,
}
_AT_A_CREATE: dict[Fault, type[ProviderError]] = {
    **_AT_ANY_CALL,
    Fault.CONFLICT: Conflict,
    Fault.QUOTA: QuotaError,
    # Something may have been made: that is to be settled first.
    Fault.BAD_GATEWAY: AmbiguousOutcome,
    Fault.HANG: AmbiguousOutcome,
}


class Cloud(Protocol):
    location: Location
    other_location: Location
    instance_type: str

    def driver(self) -> Provider:
        """A driver as another process would make one."""

    def pass_time(self, seconds: float) -> None:
        """Let the cloud's time, and the driver's, go on."""

    def servers(self) -> int:
        """How many servers the cloud has at this moment, stopped ones included."""

    def billed(self) -> int:
        """How many things it bills for: servers, volumes and addresses."""

    def add_servers_of_ours(self, count: int) -> None:
        """Servers in `location` with our tags, each of an attempt of its own, not made by the driver."""

    def switch_off(self, server_id: str) -> None:
        """Somebody switches a running server off behind our back; it goes to STOPPED, perhaps by way of STOPPING."""

    def add_foreign_server(self) -> str:
        """Rent a server without our tags in `location`, as somebody else would; returns its id."""

    def has_server(self, server_id: str) -> bool: ...

    def lose_next_answer(self) -> None:
        """The next create is done, but its answer is lost."""

    def lose_next_request(self) -> None:
        """The next create never arrives; the caller can't tell."""

    def list_late(self, seconds: float) -> None:
        """New servers are missing from listings for so long."""

    def list_partially(self) -> None:
        """Listings end half-way."""

    def sell_out(self, *, at_start: bool) -> None:
        """No machine of `instance_type` is left in `location`: refused at the create, or only at the start."""

    def fail_next_call(self, fault: Fault) -> None:
        """The next call, whatever it asks, meets the fault, and changes nothing at the cloud."""

    def fail_next_create(self, fault: Fault) -> None:
        """The call that would make the next server meets the fault, and makes none."""

    def hold_deletes(self) -> None:
        """Deletes are accepted and get nowhere."""


class ProviderConformance:
    # --- making -----------------------------------------------------------------------------------------------------

    def test_it_makes_one_server_for_an_attempt_however_often_it_is_asked(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)

        first = cloud.driver().ensure_server(spec)
        again = cloud.driver().ensure_server(spec)

        assert first.handle == again.handle
        assert cloud.servers() == 1

    def test_it_makes_one_server_for_an_attempt_asked_for_by_many_at_once(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)

        with ThreadPoolExecutor(8) as pool:
            views = list(pool.map(lambda _: cloud.driver().ensure_server(spec), range(8)))

        assert len({view.handle for view in views}) == 1
        assert cloud.servers() == 1

    def test_it_tags_what_it_makes(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)

        view = cloud.driver().ensure_server(spec)

        assert spec.tags.items() <= dict(view.tags).items()

    def test_it_finds_the_server_whose_answer_was_lost(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)
        cloud.lose_next_answer()

        with pytest.raises(AmbiguousOutcome):
            cloud.driver().ensure_server(spec)

        found = cloud.driver().find_attempt(spec.attempt_id, spec.location)
        assert found is not None
        assert cloud.driver().ensure_server(spec).handle == found.handle
        assert cloud.servers() == 1

    def test_it_finds_nothing_when_the_request_was_lost_and_can_ask_again(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)
        cloud.lose_next_request()

        with pytest.raises(AmbiguousOutcome):
            cloud.driver().ensure_server(spec)

        assert cloud.driver().find_attempt(spec.attempt_id, spec.location) is None
        assert cloud.billed() == 0
        cloud.driver().ensure_server(spec)
        assert cloud.servers() == 1

    def test_it_never_makes_a_second_server_while_the_first_is_not_listed(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)
        cloud.list_late(30)
        first = cloud.driver().ensure_server(spec)

        assert cloud.driver().find_attempt(spec.attempt_id, spec.location) is None
        if cloud.driver().remembers_attempts:
            with suppress(AmbiguousOutcome):
                assert cloud.driver().ensure_server(spec).handle == first.handle
        assert cloud.servers() == 1

        cloud.pass_time(31)
        found = cloud.driver().find_attempt(spec.attempt_id, spec.location)
        assert found is not None
        assert found.handle == first.handle
        assert cloud.driver().ensure_server(spec).handle == first.handle
        assert cloud.servers() == 1

    def test_whatever_it_made_for_an_attempt_is_ours_to_see_in_the_end(self, cloud: Cloud) -> None:
        # A caller who does not wait for the listings: a cloud that remembers no attempts may make a second server.
        spec = a_spec(cloud)
        cloud.list_late(30)
        for _ in range(2):
            with suppress(AmbiguousOutcome):
                cloud.driver().ensure_server(spec)

        cloud.pass_time(31)
        owned = cloud.driver().list_owned(spec.location, OWNER)

        assert len(owned.servers) == cloud.servers()
        assert {view.tags[TAG_ATTEMPT] for view in owned.servers} == {spec.attempt_id}

    def test_it_admits_for_how_long_its_listings_lag(self, cloud: Cloud) -> None:
        cloud.list_late(30)

        assert cloud.driver().listing_lag.total_seconds() >= 30

    def test_it_refuses_a_type_that_the_cloud_does_not_have(self, cloud: Cloud) -> None:
        with pytest.raises(InvalidSpec):
            cloud.driver().ensure_server(a_spec(cloud, instance_type="NO-SUCH-TYPE"))
        assert cloud.billed() == 0

    def test_it_registers_an_ssh_key_once(self, cloud: Cloud) -> None:
        key = SshKeySpec(
            name="somebody",
            public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g somebody",
        )

        assert cloud.driver().ensure_ssh_key(key) == cloud.driver().ensure_ssh_key(key)

    # --- starting ---------------------------------------------------------------------------------------------------

    def test_it_starts_a_server_which_then_runs_and_has_an_address(self, cloud: Cloud) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))

        running = started(cloud, view)

        assert running.ip_address is not None

    def test_it_may_be_told_to_start_twice(self, cloud: Cloud) -> None:
        running = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

        cloud.driver().start(running.handle)

        assert look(cloud, running.handle).state is ServerState.RUNNING
        assert cloud.servers() == 1

    def test_it_may_be_configured_again_with_the_same(self, cloud: Cloud) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))

        for _ in range(2):
            cloud.driver().configure(view.handle, USER_DATA)
        running = started(cloud, view)
        cloud.driver().configure(running.handle, USER_DATA)

        # What it was started with stays: a machine reads its user data once.
        with pytest.raises(Conflict):
            cloud.driver().configure(running.handle, USER_DATA + "\n")

    def test_two_servers_have_two_addresses(self, cloud: Cloud) -> None:
        views = [started(cloud, cloud.driver().ensure_server(a_spec(cloud))) for _ in range(2)]

        assert len({view.ip_address for view in views}) == 2

    # --- capacity -----------------------------------------------------------------------------------------------------

    def test_a_stockout_at_the_create_leaves_nothing(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)
        cloud.sell_out(at_start=False)

        with pytest.raises(CapacityError):
            cloud.driver().ensure_server(spec)

        assert cloud.driver().find_attempt(spec.attempt_id, spec.location) is None
        assert cloud.billed() == 0

    def test_a_stockout_at_the_start_leaves_nothing_once_it_is_destroyed(self, cloud: Cloud) -> None:
        # A cloud that starts what it makes refuses, too, after it has made the server.
        cloud.sell_out(at_start=True)
        view = cloud.driver().ensure_server(a_spec(cloud))

        with pytest.raises(CapacityError):
            cloud.driver().start(view.handle)

        destroy(cloud, view.handle)
        assert cloud.billed() == 0

    def test_it_offers_its_types_with_price_and_stock(self, cloud: Cloud) -> None:
        offer = {offer.instance_type: offer for offer in cloud.driver().list_offers(cloud.location)}[
            cloud.instance_type
        ]
        assert offer.price_per_hour is None or offer.price_per_hour > 0  # None: no price list at hand
        assert len(offer.currency) == 3
        assert offer.gpu_count * offer.vram_per_gpu_gb > 0
        assert offer.stock is not Stock.SHORTAGE

        cloud.sell_out(at_start=False)

        sold_out = {offer.instance_type: offer for offer in cloud.driver().list_offers(cloud.location)}
        # A cloud that does not tell its stock does not tell this either: there only the create finds out.
        told = Stock.UNKNOWN if offer.stock is Stock.UNKNOWN else Stock.SHORTAGE
        assert sold_out[cloud.instance_type].stock is told

    # --- errors -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("fault", _AT_A_CREATE)
    def test_it_names_what_the_cloud_answers_to_a_create_and_can_ask_again(self, cloud: Cloud, fault: Fault) -> None:
        spec = a_spec(cloud)
        cloud.fail_next_create(fault)

        with pytest.raises(_AT_A_CREATE[fault]):
            cloud.driver().ensure_server(spec)

        assert cloud.billed() == 0
        cloud.driver().ensure_server(spec)
        assert cloud.servers() == 1

    @pytest.mark.parametrize("fault", _AT_ANY_CALL)
    def test_an_error_never_means_absent_nor_gone_nor_missing(self, cloud: Cloud, fault: Fault) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))
        error = _AT_ANY_CALL[fault]

        cloud.fail_next_call(fault)
        with pytest.raises(error):
            cloud.driver().get(view.handle)
        cloud.fail_next_call(fault)
        with pytest.raises(error):
            cloud.driver().find_attempt(str(uuid.uuid4()), cloud.location)
        cloud.fail_next_call(fault)
        with pytest.raises(ProviderError):
            cloud.driver().destroy_step(view.handle)
        cloud.fail_next_call(fault)
        assert not _listed_completely(cloud)

        assert look(cloud, view.handle).handle == view.handle

    def test_a_check_says_what_works_and_what_is_missing(self, cloud: Cloud) -> None:
        good = cloud.driver().check(cloud.location)
        cloud.fail_next_call(Fault.UNAUTHORIZED)
        bad = cloud.driver().check(cloud.location)

        assert good
        assert Verdict.MISSING not in {finding.verdict for finding in good}
        assert Verdict.MISSING in {finding.verdict for finding in bad}
        assert cloud.billed() == 0

    def test_it_knows_where_it_can_rent(self, cloud: Cloud) -> None:
        assert {cloud.location, cloud.other_location} <= set(cloud.driver().locations())

    def test_what_never_existed_is_not_found(self, cloud: Cloud) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))
        destroy(cloud, view.handle)

        with pytest.raises(NotFound):
            cloud.driver().start(view.handle)
        with pytest.raises(NotFound):
            cloud.driver().configure(view.handle, USER_DATA)
        assert cloud.driver().get(view.handle) is ABSENT

    # --- listings -----------------------------------------------------------------------------------------------------

    def test_it_lists_our_servers_of_one_location_only(self, cloud: Cloud) -> None:
        here = cloud.driver().ensure_server(a_spec(cloud))
        there = cloud.driver().ensure_server(a_spec(cloud, location=cloud.other_location))
        cloud.add_foreign_server()

        owned = cloud.driver().list_owned(cloud.location, OWNER)

        assert [view.handle.server_id for view in owned.servers] == [here.handle.server_id]
        assert {volume.id for volume in owned.volumes} == set(here.handle.volume_ids)
        assert {(volume.server_id, volume.tags[TAG_ATTEMPT]) for volume in owned.volumes} <= {
            (here.handle.server_id, here.tags[TAG_ATTEMPT])
        }
        assert owned.complete
        assert there.handle.server_id not in {view.handle.server_id for view in owned.servers}

    def test_it_lists_nothing_of_another_installation(self, cloud: Cloud) -> None:
        cloud.driver().ensure_server(a_spec(cloud))

        owned = cloud.driver().list_owned(cloud.location, "another")

        assert (owned.servers, owned.volumes, owned.ips, owned.complete) == ((), (), (), True)

    def test_it_lists_more_than_a_page(self, cloud: Cloud) -> None:
        cloud.add_servers_of_ours(120)

        owned = cloud.driver().list_owned(cloud.location, OWNER)

        assert len({view.handle.server_id for view in owned.servers}) == 120
        assert owned.complete

    def test_a_listing_that_ends_half_way_says_so_and_settles_nothing(self, cloud: Cloud) -> None:
        cloud.add_servers_of_ours(120)
        cloud.list_partially()

        owned = cloud.driver().list_owned(cloud.location, OWNER)
        assert 0 < len(owned.servers) < 120
        assert not owned.complete
        with pytest.raises(ProviderError):
            cloud.driver().find_attempt(str(uuid.uuid4()), cloud.location)

    # --- destroying ---------------------------------------------------------------------------------------------------

    def test_it_destroys_a_server_that_was_never_started(self, cloud: Cloud) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))

        destroy(cloud, view.handle)

        assert cloud.billed() == 0

    def test_it_destroys_a_server_that_is_starting(self, cloud: Cloud) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))
        cloud.driver().start(view.handle)

        destroy(cloud, view.handle)

        assert cloud.billed() == 0

    def test_it_destroys_a_server_that_runs(self, cloud: Cloud) -> None:
        view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

        destroy(cloud, view.handle)

        assert cloud.billed() == 0
        assert cloud.driver().get(view.handle) is ABSENT
        assert cloud.driver().list_owned(cloud.location, OWNER).servers == ()

    def test_it_destroys_a_server_that_somebody_switched_off(self, cloud: Cloud) -> None:
        view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
        cloud.switch_off(view.handle.server_id)

        destroy(cloud, view.handle)

        assert cloud.billed() == 0

    def test_it_may_be_told_to_destroy_by_many_at_once(self, cloud: Cloud) -> None:
        view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: _destroy_or_error(cloud, view.handle), range(8)))

        destroy(cloud, view.handle)
        assert cloud.billed() == 0

    def test_destroying_what_is_gone_is_gone_again(self, cloud: Cloud) -> None:
        view = cloud.driver().ensure_server(a_spec(cloud))
        destroy(cloud, view.handle)

        assert cloud.driver().destroy_step(view.handle).is_complete

    def test_a_delete_that_gets_nowhere_stays_in_progress(self, cloud: Cloud) -> None:
        view = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
        cloud.hold_deletes()

        steps = [cloud.driver().destroy_step(view.handle) for _ in range(5)]

        assert all(view.handle.server_id in step.remaining for step in steps)
        assert cloud.driver().get(view.handle) is not ABSENT
        assert cloud.servers() == 1

    def test_an_attempt_whose_server_is_destroyed_never_rents_another(self, cloud: Cloud) -> None:
        spec = a_spec(cloud)
        destroy(cloud, cloud.driver().ensure_server(spec).handle)

        if cloud.driver().remembers_attempts:
            with pytest.raises(ProviderError):
                cloud.driver().ensure_server(spec)
            assert cloud.billed() == 0
        else:
            # Nothing there names the attempt any more: its caller must not ask, and finds what comes of it if he does.
            again = cloud.driver().ensure_server(spec)
            assert cloud.driver().list_owned(spec.location, OWNER).servers == (again,)

    def test_it_leaves_alone_what_is_not_ours(self, cloud: Cloud) -> None:
        foreign = cloud.add_foreign_server()
        ours = cloud.driver().ensure_server(a_spec(cloud))

        for view in cloud.driver().list_owned(cloud.location, OWNER).servers:
            destroy(cloud, view.handle)

        assert cloud.driver().get(ours.handle) is ABSENT
        assert cloud.has_server(foreign)


def a_spec(cloud: Cloud, *, location: Location | None = None, instance_type: str | None = None) -> ServerSpec:
    return ServerSpec(
        attempt_id=str(uuid.uuid4()),
        instance_id=str(uuid.uuid4()),
        location=location or cloud.location,
        instance_type=instance_type or cloud.instance_type,
        root_volume_gb=80,
        user_data=USER_DATA,
    )


def _listed_completely(cloud: Cloud) -> bool:
    """Whether a listing was whole; one that failed altogether was not."""
    try:
        return cloud.driver().list_owned(cloud.location, OWNER).complete
    except ProviderError:
        return False


def _destroy_or_error(cloud: Cloud, handle: Handle) -> None:
    with suppress(ProviderError):
        cloud.driver().destroy_step(handle)


def look(cloud: Cloud, handle: Handle) -> ServerView:
    view = cloud.driver().get(handle)
    assert view is not ABSENT
    return view


def started(cloud: Cloud, view: ServerView) -> ServerView:
    """Start it, and let time pass until it runs."""
    cloud.driver().start(view.handle)

    def running() -> ServerView | None:
        cloud.pass_time(1)
        seen = look(cloud, view.handle)
        return seen if seen.state is ServerState.RUNNING else None

    return eventually(running)


def destroy(cloud: Cloud, handle: Handle) -> None:
    """Take steps until nothing is left."""

    def gone() -> bool:
        cloud.pass_time(1)
        return cloud.driver().destroy_step(handle).is_complete

    assert eventually(gone)
