from __future__ import annotations

import asyncio

import pytest

from routing.router.choice.waiting import QueueFull, WaitedInVain, WaitingRoom

LATER = 1e12


async def queue(room: WaitingRoom, *key_ids: str, served: list[str]) -> list[asyncio.Task[None]]:
    """Requests of these keys, in this order; each writes its name down when it is let go."""

    async def request(name: str) -> None:
        await room.wait("m", name[0], until=LATER, returning=False)
        served.append(name)

    tasks = []
    for name in key_ids:
        tasks.append(asyncio.create_task(request(name)))
        await asyncio.sleep(0)
    return tasks


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_keys_take_turns_however_many_requests_each_has() -> None:
    room, served = WaitingRoom(length=10), list[str]()
    await queue(room, "a1", "a2", "a3", "a4", "b1", "c1", "b2", served=served)

    for _ in range(7):
        room.let_one_try("m")
        await turn()

    assert served == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]
    assert not room.has("m")


async def test_one_place_lets_one_try() -> None:
    room, served = WaitingRoom(length=10), list[str]()
    tasks = await queue(room, "a1", "b1", served=served)

    room.let_one_try("m")
    await turn()

    assert served == ["a1"]
    assert room.lengths() == {"m": 1}
    tasks[1].cancel()


async def test_who_tried_in_vain_comes_first_again() -> None:
    room, served = WaitingRoom(length=1), list[str]()
    await queue(room, "b1", served=served)
    returning = asyncio.create_task(room.wait("m", "a", until=LATER, returning=True))
    await turn()

    room.let_one_try("m")
    await turn()

    assert returning.done()
    assert served == []
    room.let_one_try("m")
    await turn()
    assert served == ["b1"]


async def test_no_more_may_wait_than_the_room_holds() -> None:
    room, served = WaitingRoom(length=2), list[str]()
    tasks = await queue(room, "a1", "a2", served=served)

    with pytest.raises(QueueFull):
        await room.wait("m", "a", until=LATER, returning=False)

    for task in tasks:
        task.cancel()


async def test_who_waits_too_long_is_told() -> None:
    room = WaitingRoom(length=2)

    with pytest.raises(WaitedInVain):
        await room.wait("m", "a", until=asyncio.get_running_loop().time(), returning=False)

    assert not room.has("m")


async def test_who_leaves_makes_room() -> None:
    room, served = WaitingRoom(length=2), list[str]()
    leaving, _ = await queue(room, "a1", "b1", served=served)
    leaving.cancel()
    await turn()

    room.let_one_try("m")
    await turn()

    assert served == ["b1"]
    assert not room.has("m")


async def test_who_leaves_when_it_is_his_turn_passes_it_on() -> None:
    room, served = WaitingRoom(length=2), list[str]()
    leaving, _ = await queue(room, "a1", "b1", served=served)

    room.let_one_try("m")
    leaving.cancel()
    await turn()

    assert served == ["b1"]


async def test_a_tick_lets_the_first_of_each_model_try() -> None:
    room = WaitingRoom(length=2)
    waiting = [asyncio.create_task(room.wait(model, "a", until=LATER, returning=False)) for model in ("m", "n")]
    await turn()

    room.tick()
    await turn()

    assert all(task.done() for task in waiting)
