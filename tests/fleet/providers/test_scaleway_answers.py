"""What the driver makes of the real API's recorded answers, and of answers that were tampered with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.providers.base import (
    ABSENT,
    AmbiguousOutcome,
    AuthError,
    CapacityError,
    Conflict,
    Handle,
    InvalidSpec,
    NotFound,
    ProviderError,
    QuotaError,
    ServerSpec,
    ServerState,
    ServerView,
    Throttled,
    Unavailable,
)
from tests.clouds.scaleway import machine_types, recordings
from tests.fleet.providers.canned_scaleway import LOCATION, SECRET_KEY, Say, driver, not_found

HANDLE = Handle("server", LOCATION, volume_ids=("volume",), ip_ids=("ip",))
INSTANCE = f"/instance/v1/zones/{LOCATION.zone}"
BLOCK = f"/block/v1/zones/{LOCATION.zone}"


def saying(*, server: Any = None, volume: Any = None, ip: Any = None) -> Say:
    """One of each, found and listed; what is None is not there."""

    def say(method: str, path: str) -> tuple[int, Any]:
        if method != "GET":
            return 204, ""
        if path == f"{INSTANCE}/servers":
            return 200, {"servers": [server]}
        if path == f"{INSTANCE}/ips":
            return 200, {"ips": [ip]}
        if path == f"{BLOCK}/volumes":
            return 200, {"volumes": [volume]}
        if path.startswith(f"{INSTANCE}/servers/"):
            return not_found("instance_server") if server is None else (200, {"server": server})
        return not_found("volume") if volume is None else (200, volume)

    return say


@pytest.mark.parametrize("server", recordings.servers())
def test_it_reads_every_recorded_server(server: dict[str, Any]) -> None:
    view = driver(saying(server=server, volume=recordings.volumes()[0])).get(HANDLE)

    assert isinstance(view, ServerView)
    assert view.handle.server_id == server["id"]
    assert view.state == server["state"]
    assert view.created_at is not None
    assert view.instance_type == server["commercial_type"]
    assert (view.ip_address is None) == (server["public_ips"] == [])
    assert len(view.tags) == len(server["tags"])
    assert set(view.handle.ip_ids) == {one["id"] for one in server["public_ips"] if not one["dynamic"]}


def test_it_lists_every_recorded_thing_that_is_ours() -> None:
    tags = ["inv-owner=inventiv"]
    server, volume, ip = recordings.servers()[-1], recordings.volumes()[-1], recordings.addresses()[-1]
    say = saying(server=server | {"tags": tags}, volume=volume | {"tags": tags}, ip=ip | {"tags": tags})

    owned = driver(say).list_owned(LOCATION, "inventiv")

    assert owned.complete
    assert [view.handle.server_id for view in owned.servers] == [server["id"]]
    assert [one.id for one in owned.volumes] == [volume["id"]]
    assert ip["id"] in {one.id for one in owned.ips}


def test_it_does_not_rely_on_the_clouds_own_filter() -> None:
    # Matched in part, or the argument passed over: what comes is not what was asked for.
    say = saying(server=recordings.servers()[0] | {"tags": ["inv-owner=inventiv-2", "inv-attempt=another"]})

    assert driver(say).find_attempt("an", LOCATION) is None
    assert driver(say).list_owned(LOCATION, "inventiv").servers == ()


def test_a_volume_that_refers_to_our_server_is_ours_even_if_the_server_does_not_name_it() -> None:
    server = recordings.servers()[0] | {"tags": ["inv-owner=inventiv"], "volumes": None}
    (volume,) = [one for one in recordings.volumes() if one["references"]]
    reference = volume["references"][0] | {"product_resource_id": server["id"]}

    owned = driver(saying(server=server, volume=volume | {"references": [reference]})).list_owned(LOCATION, "inventiv")

    assert [(one.id, one.server_id) for one in owned.volumes] == [(volume["id"], server["id"])]


def test_a_listing_that_changes_while_its_pages_are_turned_is_not_complete() -> None:
    pages = iter([[{"id": str(number), "tags": ["inv-owner=inventiv"]} for number in range(100)], [], []])

    def say(method: str, path: str) -> tuple[int, Any]:
        if path == f"{INSTANCE}/servers":
            return 200, {"servers": next(pages), "total_count": 101}
        return 200, {}

    owned = driver(say).list_owned(LOCATION, "inventiv")

    assert len(owned.servers) == 100
    assert not owned.complete


def test_a_cloud_that_gives_the_same_page_for_ever_is_asked_twice() -> None:
    calls: list[str] = []

    def say(method: str, path: str) -> tuple[int, Any]:
        calls.append(path)
        return 200, {"servers": [{"id": str(number)} for number in range(100)]}

    assert driver(say).find_attempt("an", LOCATION) is None
    assert len(calls) == 2


# --- tampered with -------------------------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(),
    st.sampled_from(["", "a word from next year", 0, -1, 2**70, 0.5, True]),
    st.builds(list),
    st.builds(dict),
    st.just([None, 1, {}]),
    st.just({"new": None}),
)


@st.composite
def tampered(draw: st.DrawFn, recorded: Callable[[], list[dict[str, Any]]]) -> dict[str, Any]:
    """One of the recorded things with some of its values replaced, some gone, and some new."""
    things = recorded()
    thing: dict[str, Any] = copy.deepcopy(things[draw(st.integers(0, len(things) - 1))])
    for _ in range(draw(st.integers(1, 4))):
        target = _descend(draw, thing)
        key = draw(st.sampled_from([*target, "a_new_field"]))
        if draw(st.booleans()) and key in target:
            del target[key]
        else:
            target[key] = copy.deepcopy(draw(ODD))
    return thing


def _descend(draw: st.DrawFn, thing: dict[str, Any]) -> dict[str, Any]:
    while True:
        deeper = [value for value in thing.values() if isinstance(value, dict) and value]
        deeper += [one for value in thing.values() if isinstance(value, list) for one in value if isinstance(one, dict)]
        if not deeper or draw(st.booleans()):
            return thing
        thing = draw(st.sampled_from(deeper))


@settings(deadline=None)
@given(
    server=tampered(recordings.servers),
    volume=tampered(recordings.volumes),
    ip=tampered(recordings.addresses),
)
def test_no_oddity_in_an_answer_is_more_than_an_error_of_ours(server: Any, volume: Any, ip: Any) -> None:
    provider = driver(saying(server=server, volume=volume, ip=ip))

    assert isinstance(provider.get(HANDLE), ServerView)
    provider.list_owned(LOCATION, "inventiv")
    provider.find_attempt("attempt", LOCATION)
    for ask in (
        lambda: provider.start(HANDLE),
        lambda: provider.configure(HANDLE, "#cloud-config"),
        lambda: provider.destroy_step(HANDLE),
        lambda: provider.destroy_step(Handle("", LOCATION, volume_ids=("volume",))),
        lambda: provider.list_offers(LOCATION),
        lambda: provider.check(LOCATION),
    ):
        try:
            ask()
        except ProviderError:
            continue


@settings(deadline=None)
@given(product=tampered(lambda: [machine_types.product(entry) for entry in machine_types.all_types().values()]))
def test_no_oddity_in_the_price_list_breaks_it(product: Any) -> None:
    def say(method: str, path: str) -> tuple[int, Any]:
        return 200, {"servers": {"L4-1-24G": product, "odd": None, "RENDER-S": {"availability": ["scarce"]}}}

    offers = driver(say).list_offers(LOCATION)

    assert {offer.instance_type for offer in offers} <= {"L4-1-24G"}
    assert all(offer.gpu_count > 0 and offer.vram_per_gpu_gb > 0 for offer in offers)


@settings(deadline=None)
@given(preparation=tampered(lambda: [PREPARATION]), server=tampered(recordings.servers))
def test_no_oddity_on_the_way_to_a_server_is_more_than_an_error_of_ours(preparation: Any, server: Any) -> None:
    try:
        view = driver(creating((201, {"server": server}), preparation)).ensure_server(A_SPEC)
    except ProviderError:
        return
    assert view.handle.server_id == server["id"]


@settings(deadline=None)
@given(state=st.one_of(ODD, st.text()))
def test_a_state_that_it_has_not_met_is_neither_running_nor_gone(state: Any) -> None:
    view = driver(saying(server=recordings.servers()[0] | {"state": f"{state}!"})).get(HANDLE)

    assert isinstance(view, ServerView)
    assert view.state is ServerState.UNKNOWN


@pytest.mark.parametrize("state", ["stopped in place", "stopped_in_place"])
def test_a_server_stopped_in_place_is_stopped_and_is_terminated_not_deleted(state: str) -> None:
    calls: list[tuple[str, str]] = []
    say = saying(server=recordings.servers()[0] | {"state": state})

    def noting(method: str, path: str) -> tuple[int, Any]:
        calls.append((method, path))
        return (202, {"task": None}) if method == "POST" else say(method, path)

    view = driver(noting).get(HANDLE)
    driver(noting).destroy_step(HANDLE)

    assert isinstance(view, ServerView)
    assert view.state is ServerState.STOPPED
    assert calls[-1] == ("POST", f"{INSTANCE}/servers/server/action")


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, ""),
        (404, "<html>404</html>"),
        (404, {"message": "not found"}),
        (404, {"type": "something_new", "message": "resource is not found"}),
        (410, ""),
        (200, ""),
        (200, "[]"),
        (200, "null"),
        (200, {}),
        (200, {"server": None}),
        (204, ""),
        (301, ""),
        (500, {"type": "internal"}),
        (503, ""),
    ],
)
def test_only_a_typed_not_found_is_absent_or_gone(status: int, body: Any) -> None:
    provider = driver(lambda method, path: (status, body))

    with pytest.raises(Unavailable):
        provider.get(HANDLE)
    with pytest.raises(Unavailable):
        provider.destroy_step(HANDLE)


def test_the_token_is_not_sent_to_where_an_answer_points() -> None:
    calls: list[str] = []

    def say(method: str, path: str) -> tuple[int, Any]:
        calls.append(path)
        return 302, ""

    with pytest.raises(Unavailable):
        driver(say).get(HANDLE)
    assert len(calls) == 1


def test_a_typed_not_found_is_absent_whatever_its_status() -> None:
    _, body = not_found("instance_server")

    assert driver(lambda method, path: (400, body)).get(HANDLE) is ABSENT
    assert driver(lambda method, path: (404, body)).destroy_step(HANDLE).is_complete


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (403, "quotas_exceeded", QuotaError),
        (403, "permissions_denied", AuthError),
        (401, "denied_authentication", AuthError),
        (412, "out_of_stock", CapacityError),
        (500, "out_of_stock", CapacityError),
        (409, "transient_state", Conflict),
        (400, "precondition_failed", Conflict),
        (412, "precondition_failed", Conflict),
        (400, "invalid_arguments", InvalidSpec),
        (404, "not_found", NotFound),
        (429, None, Throttled),
        (401, None, AuthError),
        (403, None, AuthError),
        (400, None, InvalidSpec),
        (409, None, Conflict),
        (404, None, AmbiguousOutcome),
        (408, None, AmbiguousOutcome),
        (500, "internal", AmbiguousOutcome),
        (502, None, AmbiguousOutcome),
        (201, None, AmbiguousOutcome),
    ],
)
def test_the_type_names_the_refusal_of_a_create_and_the_status_only_where_there_is_none(
    status: int, kind: str | None, error: type[ProviderError]
) -> None:
    with pytest.raises(error):
        driver(creating((status, {"type": kind, "message": "no"} if kind else ""))).ensure_server(A_SPEC)


@pytest.mark.parametrize("answer", [{}, {"server": None}, {"server": {"id": None}}, {"server": []}])
def test_a_create_whose_answer_has_no_server_in_it_is_unclear(answer: Any) -> None:
    with pytest.raises(AmbiguousOutcome):
        driver(creating((201, answer))).ensure_server(A_SPEC)


@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, 500, 502])
def test_whatever_fails_after_the_create_is_unclear_since_there_is_a_server(status: int) -> None:
    made = {"server": recordings.servers()[0]}
    say = creating((201, made))
    created: list[str] = []

    def failing_after(method: str, path: str) -> tuple[int, Any]:
        if created:
            return status, ""
        if method == "POST" and path == f"{INSTANCE}/servers":
            created.append(path)
        return say(method, path)

    with pytest.raises(AmbiguousOutcome):
        driver(failing_after).ensure_server(A_SPEC)


def test_an_error_never_repeats_the_secret() -> None:
    body = {"type": "denied_authentication", "message": f"{SECRET_KEY} is no key", "details": [SECRET_KEY]}

    with pytest.raises(AuthError) as caught:
        driver(lambda method, path: (401, body)).get(HANDLE)

    assert "denied_authentication" in str(caught.value)
    assert SECRET_KEY not in str(caught.value)


A_SPEC = ServerSpec(
    attempt_id="attempt",
    instance_id="instance",
    location=LOCATION,
    instance_type="L4-1-24G",
    root_volume_gb=80,
    user_data="",
)


PREPARATION: dict[str, Any] = {
    "types": {"L4-1-24G": {"gpu": 1, "scratch_storage_max_size": 0}},
    "local_images": [{"id": "image", "compatible_commercial_types": ["L4-1-24G"], "zone": LOCATION.zone}],
    "security_groups": [{"id": "group", "name": "inventiv-inventiv", "tags": ["inv-owner=inventiv"]}],
    "security_group": {"id": "group", "stateful": True},
    "rules": [{"id": "rule", "protocol": "TCP", "ip_range": "0.0.0.0/0", "dest_port_from": 25, "editable": False}],
}


def creating(answer: tuple[int, Any], preparation: Any = None) -> Say:
    """All that a create needs is there; the create itself is answered so."""
    known = PREPARATION if preparation is None else preparation

    def say(method: str, path: str) -> tuple[int, Any]:
        if method == "POST" and path == f"{INSTANCE}/servers":
            return answer
        return 200, {**known, "servers": known.get("types") if path.endswith("/products/servers") else []}

    return say
