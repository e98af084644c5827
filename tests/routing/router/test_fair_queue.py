"""One key's flood in the waiting room leaves room for the others."""

from __future__ import annotations

import asyncio

import pytest

from routing.router.choice.waiting import QueueFull, WaitingRoom

LATER = 1e12


async def test_a_key_that_fills_the_room_does_not_keep_others_out() -> None:
    room = WaitingRoom(length=10)
    flood = [asyncio.create_task(room.wait("m", "greedy", until=LATER, returning=False)) for _ in range(10)]
    await asyncio.sleep(0)

    modest = asyncio.create_task(room.wait("m", "modest", until=LATER, returning=False))
    for _ in range(3):
        await asyncio.sleep(0)

    assert not modest.done(), modest.exception()
    assert room.lengths()["m"] <= 10
    (refused,) = (task for task in flood if task.done())
    assert isinstance(refused.exception(), QueueFull)
    with pytest.raises(QueueFull):
        await room.wait("m", "greedy", until=LATER, returning=False)
    for task in (*flood, modest):
        task.cancel()
    await asyncio.gather(*flood, modest, return_exceptions=True)
