"""Scaleway's driver: the claims of every provider, and some of its own, on the stand-in."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fleet.providers import registry
from fleet.providers.base import (
    ABSENT,
    TAG_OWNER,
    AmbiguousOutcome,
    AuthError,
    Conflict,
    Handle,
    Ingress,
    InvalidSpec,
    ProviderError,
    ResourceKind,
    ServerState,
    SshKeySpec,
    Unavailable,
    Verdict,
)
from fleet.providers.scaleway import build
from fleet.providers.scaleway.account import TIMEOUT
from fleet.providers.scaleway.provider import ScalewayProvider
from tests.clouds.scaleway import Fault as CloudFault
from tests.fleet.providers.conformance import (
    OWNER,
    USER_DATA,
    Fault,
    ProviderConformance,
    a_spec,
    destroy,
    look,
    started,
)
from tests.fleet.providers.scaleway_cloud import ACCESS_KEY, SECRET_KEY, ScalewayCloud

CATALOGUE = json.loads((Path(__file__).parents[3] / "catalog/data/scaleway.json").read_text())
CANARY = "3f1c0de5-one-time-token"
PROJECT = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def cloud() -> Iterator[ScalewayCloud]:
    cloud = ScalewayCloud()
    with cloud.fake:
        yield cloud


class TestScaleway(ProviderConformance):
    pass


def test_the_registry_builds_it() -> None:
    driver = registry.build("scaleway", access_key=ACCESS_KEY, secret_key=SECRET_KEY, project_id=PROJECT)

    assert isinstance(driver, ScalewayProvider)


# --- what is made --------------------------------------------------------------------------------------------------


def test_the_root_is_as_large_as_asked_and_nothing_is_rented_that_outlives_the_server_but_it(
    cloud: ScalewayCloud,
) -> None:
    view = cloud.driver().ensure_server(replace(a_spec(cloud), root_volume_gb=123))

    (server,) = cloud.ask("GET", "servers")["servers"]
    assert [volume["volume_type"] for volume in server["volumes"].values()] == ["sbs_volume"]
    assert cloud.fake.books.volumes[view.handle.volume_ids[0]].size == 123 * 10**9
    assert server["dynamic_ip_required"]
    assert not server["protected"]
    assert view.handle.ip_ids == ()
    assert view.state is ServerState.STOPPED


@pytest.mark.parametrize(
    ("instance_type", "terabytes"),
    [("L40S-1-48G", "1.6"), ("L40S-8-48G", "12.8"), ("H100-2-80G", "6"), ("L4-8-24G", 0)],
)
def test_scratch_is_as_large_as_the_type_has_it(cloud: ScalewayCloud, instance_type: str, terabytes: str) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud, instance_type=instance_type))

    (server,) = cloud.ask("GET", "servers")["servers"]
    scratch = [volume["size"] for volume in server["volumes"].values() if volume["volume_type"] == "scratch"]
    assert sum(scratch) == Decimal(terabytes) * 10**12
    assert len(view.handle.volume_ids) == 1  # scratch goes with the server


def test_an_unknown_image_is_refused_with_what_to_do_and_nothing_is_made(cloud: ScalewayCloud) -> None:
    with pytest.raises(InvalidSpec, match=r"no image labelled 'ubuntu_nobel'.*check the spelling"):
        cloud.driver(image="ubuntu_nobel").ensure_server(a_spec(cloud))
    assert cloud.billed() == 0


def test_an_image_that_is_not_made_for_the_type_is_refused(cloud: ScalewayCloud) -> None:
    with pytest.raises(InvalidSpec, match=r"'ubuntu_jammy' is not made for L4-1-24G"):
        cloud.driver(image="ubuntu_jammy").ensure_server(a_spec(cloud))
    assert cloud.billed() == 0


def test_an_image_may_be_named_by_its_id(cloud: ScalewayCloud) -> None:
    image_id = "c00ae53c-1e29-4087-a384-47f3c5c1cd84"

    cloud.driver(image=image_id).ensure_server(a_spec(cloud))

    assert cloud.ask("GET", "servers")["servers"][0]["image"]["id"] == image_id


def test_spot_is_refused_for_there_is_none(cloud: ScalewayCloud) -> None:
    with pytest.raises(InvalidSpec, match="no spot"):
        cloud.driver().ensure_server(replace(a_spec(cloud), spot=True))
    assert cloud.sent == []


def test_an_owner_that_would_be_two_tags_is_refused(cloud: ScalewayCloud) -> None:
    with pytest.raises(InvalidSpec, match="comma"):
        cloud.driver().ensure_server(replace(a_spec(cloud), owner="us,them"))
    assert cloud.sent == []


# --- volumes and addresses -----------------------------------------------------------------------------------------


def test_a_volume_whose_maker_crashed_before_it_was_tagged_is_tagged_when_its_server_is_found(
    cloud: ScalewayCloud,
) -> None:
    spec = a_spec(cloud)
    cloud.lose_next_answer()
    with pytest.raises(AmbiguousOutcome):
        cloud.driver().ensure_server(spec)
    assert _tags_of_volumes(cloud) == [[]]

    cloud.driver().ensure_server(spec)

    assert _tags_of_volumes(cloud) == [[f"{name}={value}" for name, value in spec.tags.items()]]


def test_a_volume_without_tags_is_tagged_before_its_server_starts(cloud: ScalewayCloud) -> None:
    spec = a_spec(cloud)
    handle = cloud.add_server([f"{name}={value}" for name, value in spec.tags.items()])

    cloud.driver().configure(handle, USER_DATA)

    assert _tags_of_volumes(cloud) == [[f"{name}={value}" for name, value in spec.tags.items()]]


def test_a_volume_without_tags_is_listed_as_long_as_our_server_holds_it(cloud: ScalewayCloud) -> None:
    handle = cloud.add_server([f"{TAG_OWNER}={OWNER}"])
    cloud.add_foreign_server()

    (volume,) = cloud.driver().list_owned(cloud.location, OWNER).volumes

    assert (volume.id, volume.server_id) == (handle.volume_ids[0], handle.server_id)


def test_a_volume_that_outlived_its_server_is_listed_and_destroyed_without_one(cloud: ScalewayCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.ask("DELETE", f"servers/{view.handle.server_id}")
    cloud.pass_time(5)
    foreign = cloud.add_server(["somebody-else"])

    owned = cloud.driver().list_owned(cloud.location, OWNER)
    (volume,) = owned.volumes
    assert owned.servers == ()
    assert volume.server_id == ""
    destroy(cloud, Handle("", cloud.location, volume_ids=(volume.id,)))

    assert cloud.driver().list_owned(cloud.location, OWNER).volumes == ()
    assert cloud.has_server(foreign.volume_ids[0])


def test_an_address_that_outlives_the_server_is_named_and_destroyed(cloud: ScalewayCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    flexible = cloud.ask("POST", "ips", {"server": view.handle.server_id})["ip"]
    reserved = cloud.ask("POST", "ips", {})["ip"]

    handle = look(cloud, view.handle).handle
    assert handle.ip_ids == (flexible["id"],)
    assert [ip.id for ip in cloud.driver().list_owned(cloud.location, OWNER).ips] == [flexible["id"]]
    destroy(cloud, handle)

    assert [ip["id"] for ip in cloud.ask("GET", "ips")["ips"]] == [reserved["id"]]


def test_a_dynamic_address_is_billed_beside_the_machine_and_goes_with_it(cloud: ScalewayCloud) -> None:
    running = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    (address,) = [one for one in running.attachments if one.kind is ResourceKind.IP]
    assert running.handle.ip_ids == ()
    assert address.server_id == running.handle.server_id
    destroy(cloud, running.handle)

    assert cloud.billed() == 0


def test_what_it_says_is_billed_is_what_the_cloud_bills(cloud: ScalewayCloud) -> None:
    running = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    offers = {offer.instance_type: offer for offer in cloud.driver().list_offers(cloud.location)}

    bill = {line.id: line.price_per_hour for line in cloud.fake.bill()}
    said = {one.id: one.price_per_hour for one in running.attachments}

    assert bill == {**said, running.handle.server_id: offers[cloud.instance_type].price_per_hour}
    assert len(bill) == 3


def test_it_destroys_the_server_before_its_volume_and_asks_no_delete_that_must_be_refused(
    cloud: ScalewayCloud,
) -> None:
    running = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    cloud.sent.clear()

    destroy(cloud, running.handle)

    server, (volume,), zone = running.handle.server_id, running.handle.volume_ids, cloud.location.zone
    assert [call for call in cloud.calls() if not call.startswith("GET")] == [
        f"POST {zone}/servers/{server}/action",
        f"DELETE {zone}/volumes/{volume}",
    ]


def test_a_server_that_starts_is_left_to_start_and_then_ended(cloud: ScalewayCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.driver().start(view.handle)
    cloud.sent.clear()

    step = cloud.driver().destroy_step(view.handle)

    assert step.remaining == {view.handle.server_id, *view.handle.volume_ids}
    assert [call.split()[0] for call in cloud.calls()] == ["GET"]


def test_a_volume_whose_delete_was_accepted_is_not_gone_before_the_cloud_says_so(cloud: ScalewayCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.ask("DELETE", f"servers/{view.handle.server_id}")
    cloud.pass_time(5)
    cloud.hold_deletes()

    steps = [cloud.driver().destroy_step(view.handle) for _ in range(3)]

    assert [step.remaining for step in steps] == [set(view.handle.volume_ids)] * 3


# --- callers who race ----------------------------------------------------------------------------------------------


def test_of_two_callers_who_raced_the_later_one_removes_its_own_server(cloud: ScalewayCloud) -> None:
    spec = a_spec(cloud)
    first = []
    cloud.before_next_create = lambda: first.append(cloud.driver().ensure_server(spec))

    kept = cloud.driver().ensure_server(spec)

    assert kept.handle == first[0].handle
    assert cloud.servers() == 1
    assert look(cloud, kept.handle).state is ServerState.STOPPED


def test_what_the_later_one_left_is_ours_to_find(cloud: ScalewayCloud) -> None:
    spec = a_spec(cloud)
    cloud.before_next_create = lambda: cloud.driver().ensure_server(spec)
    kept = cloud.driver().ensure_server(spec)
    cloud.pass_time(5)

    owned = cloud.driver().list_owned(cloud.location, OWNER)
    left = [volume for volume in owned.volumes if not volume.server_id]
    destroy(cloud, Handle("", cloud.location, volume_ids=tuple(volume.id for volume in left)))

    assert [volume.tags for volume in left] == [spec.tags]
    assert {line.id for line in cloud.fake.bill() if line.until is None} == {
        kept.handle.server_id,
        *kept.handle.volume_ids,
    }


def test_a_later_one_never_touches_the_server_of_the_first_even_if_it_can_not_remove_its_own(
    cloud: ScalewayCloud,
) -> None:
    spec = a_spec(cloud)
    first = []

    def start_the_first() -> None:
        first.append(cloud.driver().ensure_server(spec))
        cloud.driver().start(first[0].handle)
        cloud.hold_deletes()

    cloud.before_next_create = start_the_first
    kept = cloud.driver().ensure_server(spec)
    cloud.pass_time(10)

    assert kept.handle.server_id == first[0].handle.server_id
    assert look(cloud, first[0].handle).state is ServerState.RUNNING


def test_what_fails_before_the_create_has_made_no_machine_however_unclear(cloud: ScalewayCloud) -> None:
    cloud.fake.faults.next_group_creates.append(CloudFault.DROPPED)

    with pytest.raises(Unavailable):
        cloud.driver().ensure_server(a_spec(cloud))

    assert cloud.billed() == 0


# --- power ---------------------------------------------------------------------------------------------------------


def test_a_server_that_is_being_switched_off_can_not_be_started_yet(cloud: ScalewayCloud) -> None:
    running = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))
    cloud.switch_off(running.handle.server_id)

    with pytest.raises(Conflict):
        cloud.driver().start(running.handle)
    cloud.pass_time(10)

    assert started(cloud, running).state is ServerState.RUNNING


def test_a_server_that_is_on_is_not_told_to_start_again(cloud: ScalewayCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.driver().start(view.handle)
    cloud.sent.clear()

    cloud.driver().start(view.handle)
    started(cloud, view)

    assert not [call for call in cloud.calls() if call.startswith("POST")]


def test_a_machine_that_runs_without_user_data_is_not_given_any(cloud: ScalewayCloud) -> None:
    running = started(cloud, cloud.driver().ensure_server(a_spec(cloud)))

    with pytest.raises(Conflict):
        cloud.driver().configure(running.handle, USER_DATA)


def test_a_handle_without_a_server_is_not_looked_at(cloud: ScalewayCloud) -> None:
    with pytest.raises(InvalidSpec):
        cloud.driver().get(Handle("", cloud.location))
    assert cloud.sent == []


# --- who may connect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "cidr"), [(8000, "0.0.0.0/0"), (8000, "::/0"), (80, "0.0.0.0/0"), (0, "10.0.0.0/8"), (22, "everywhere")]
)
def test_the_engines_port_is_never_open_to_the_world(cloud: ScalewayCloud, port: int, cidr: str) -> None:
    with pytest.raises(InvalidSpec):
        cloud.driver().ensure_server(replace(a_spec(cloud), ingress=(Ingress(port, cidr),)))
    assert cloud.billed() == 0


def test_a_machine_lets_in_what_was_asked_for_and_nothing_else(cloud: ScalewayCloud) -> None:
    ingress = (Ingress(8000, "203.0.113.7/32"), Ingress(22, "0.0.0.0/0"))

    cloud.driver().ensure_server(replace(a_spec(cloud), ingress=ingress))

    assert _inbound(cloud) == {("203.0.113.7", 8000), ("0.0.0.0/0", 22)}
    assert _our_group(cloud)["inbound_default_policy"] == "drop"
    assert _our_group(cloud)["stateful"]


def test_machines_of_an_installation_share_a_group_that_is_changed_only_when_it_must_be(cloud: ScalewayCloud) -> None:
    spec = replace(a_spec(cloud), ingress=(Ingress(8000, "203.0.113.7/32"), Ingress(22, "2001:db8::/32")))
    cloud.driver().ensure_server(spec)
    cloud.sent.clear()

    cloud.driver().ensure_server(replace(spec, attempt_id="another"))

    assert not [call for call in cloud.calls() if "security_groups" in call and not call.startswith("GET")]
    assert len(_our_group(cloud)["servers"]) == 2


def test_a_group_that_somebody_opened_is_closed_again(cloud: ScalewayCloud) -> None:
    cloud.driver().ensure_server(a_spec(cloud))
    group = _our_group(cloud)
    opened = {"action": "accept", "protocol": "ANY", "direction": "inbound", "ip_range": "0.0.0.0/0"}
    cloud.ask("PATCH", f"security_groups/{group['id']}", {"inbound_default_policy": "accept"})
    cloud.ask("PUT", f"security_groups/{group['id']}/rules", {"rules": [opened]})

    cloud.driver().ensure_server(a_spec(cloud))

    assert _our_group(cloud)["inbound_default_policy"] == "drop"
    assert _inbound(cloud) == set()


def test_a_group_is_not_shared_with_another_installation(cloud: ScalewayCloud) -> None:
    cloud.driver().ensure_server(a_spec(cloud))
    cloud.driver().ensure_server(replace(a_spec(cloud), owner="inventiv-2"))

    groups = [group for group in cloud.ask("GET", "security_groups")["security_groups"] if group["tags"]]
    assert [len(group["servers"]) for group in groups] == [1, 1]


# --- the catalogue -------------------------------------------------------------------------------------------------


def test_it_offers_what_our_catalogue_has_under_the_same_names(cloud: ScalewayCloud) -> None:
    expected = {
        entry["name"]: (
            entry["gpu_name"],
            entry["gpu_count"],
            entry["vram_per_gpu_gb"],
            Decimal(entry["price_per_hour"]),
        )
        for entry in CATALOGUE["instance_types"]
        if cloud.location.zone in entry["zones"]
    }

    offers = cloud.driver().list_offers(cloud.location)

    assert {
        offer.instance_type: (offer.gpu_name, offer.gpu_count, offer.vram_per_gpu_gb, offer.price_per_hour)
        for offer in offers
    } == expected
    assert {offer.currency for offer in offers} == {"EUR"}


def test_a_price_list_that_ends_half_way_is_none(cloud: ScalewayCloud) -> None:
    cloud.list_partially()

    with pytest.raises(Unavailable):
        cloud.driver().list_offers(cloud.location)


def test_an_ssh_key_is_known_by_its_material(cloud: ScalewayCloud) -> None:
    key = SshKeySpec(name="somebody", public_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA somebody@home")
    first = cloud.driver().ensure_ssh_key(key)

    same = cloud.driver().ensure_ssh_key(SshKeySpec("renamed", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"))
    other = cloud.driver().ensure_ssh_key(SshKeySpec("somebody", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5BBBB"))

    assert (same == first, other == first) == (True, False)


# --- the check -----------------------------------------------------------------------------------------------------


def test_a_check_says_whose_key_it_is_which_image_and_what_is_in_stock(cloud: ScalewayCloud) -> None:
    findings = {finding.subject: finding for finding in cloud.driver().check(cloud.location)}

    assert ACCESS_KEY in findings["credentials"].detail
    assert "ubuntu_noble_gpu_os_13_nvidia is " in findings["image"].detail
    assert cloud.instance_type in findings["machine types and stock"].detail
    assert {finding.verdict for finding in findings.values()} == {Verdict.WORKS, Verdict.UNCLEAR}


def test_a_check_says_what_to_do_about_an_image_that_is_not_there(cloud: ScalewayCloud) -> None:
    findings = cloud.driver(image="ubuntu_nobel").check(cloud.location)

    (missing,) = [finding for finding in findings if finding.verdict is Verdict.MISSING]
    assert missing.subject == "image"
    assert "check the spelling" in missing.detail


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in {Fault.QUOTA, Fault.CONFLICT}])
def test_a_check_never_raises(cloud: ScalewayCloud, fault: Fault) -> None:
    cloud.fail_next_call(fault)

    verdicts = [finding.verdict for finding in cloud.driver().check(cloud.location)]

    assert (verdicts == [Verdict.MISSING]) == (fault is Fault.UNAUTHORIZED)


# --- the wire ------------------------------------------------------------------------------------------------------


def test_every_request_has_its_time_outs(cloud: ScalewayCloud) -> None:
    view = started(cloud, cloud.driver().ensure_server(replace(a_spec(cloud), ingress=(Ingress(22, "0.0.0.0/0"),))))
    cloud.driver().configure(cloud.driver().ensure_server(a_spec(cloud)).handle, USER_DATA)
    cloud.driver().ensure_ssh_key(SshKeySpec("somebody", "ssh-ed25519 AAAA"))
    cloud.driver().list_owned(cloud.location, OWNER)
    cloud.driver().check(cloud.location)
    destroy(cloud, view.handle)

    assert {request.method for request, _ in cloud.sent} == {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert {timeout for _, timeout in cloud.sent} == {TIMEOUT}


@pytest.mark.parametrize(
    ("access_key", "secret_key", "project_id"),
    [("SCW", SECRET_KEY, PROJECT), (ACCESS_KEY, "hunter2-not-a-uuid", PROJECT), (ACCESS_KEY, SECRET_KEY, "mine")],
)
def test_credentials_that_can_not_be_any_are_refused_without_repeating_the_secret(
    access_key: str, secret_key: str, project_id: str
) -> None:
    with pytest.raises(AuthError, match="is not one") as caught:
        build(access_key=access_key, secret_key=secret_key, project_id=project_id)

    assert secret_key not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.QUOTA])
def test_no_error_tells_a_secret(cloud: ScalewayCloud, fault: Fault) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    user_data = USER_DATA + CANARY
    asks: list[Callable[[], object]] = [
        lambda: cloud.driver().get(view.handle),
        lambda: cloud.driver().configure(view.handle, user_data),
    ]
    for ask in asks:
        cloud.fail_next_call(fault)
        with pytest.raises(ProviderError) as caught:
            ask()
        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert SECRET_KEY not in told
        assert CANARY not in told


def test_what_was_destroyed_by_hand_is_absent(cloud: ScalewayCloud) -> None:
    view = cloud.driver().ensure_server(a_spec(cloud))
    cloud.ask("DELETE", f"servers/{view.handle.server_id}")

    assert cloud.driver().get(view.handle) is ABSENT


def _tags_of_volumes(cloud: ScalewayCloud) -> list[list[str]]:
    return [volume.tags for volume in cloud.fake.books.volumes.values()]


def _our_group(cloud: ScalewayCloud) -> dict[str, Any]:
    (group,) = [one for one in cloud.ask("GET", "security_groups")["security_groups"] if one["tags"]]
    return dict(group)


def _inbound(cloud: ScalewayCloud) -> set[tuple[str, int]]:
    rules = cloud.ask("GET", f"security_groups/{_our_group(cloud)['id']}/rules")["rules"]
    assert all(rule["action"] == "accept" for rule in rules if rule["direction"] == "inbound")
    return {(rule["ip_range"], rule["dest_port_from"]) for rule in rules if rule["direction"] == "inbound"}
