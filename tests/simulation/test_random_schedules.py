"""Schedules by chance: a law that is broken prints the seed and the story; the seed plays it again.

make simulate SEEDS=20000     the long run, on all cores; with FIRST=8000 it goes on where another has ended
make simulate SEED=4711       one of them, told as a story
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.scenarios import FAULTS_END, random_schedule

_BLOCK = 50  # schedules a test: a process is given so many at a time
_FIRST = int(os.environ.get("SIMULATION_FIRST") or 0)
_SEEDS = int(os.environ.get("SIMULATION_SEEDS") or 500)
_SEED = os.environ.get("SIMULATION_SEED")

pytestmark = pytest.mark.usefixtures("theatre")


@pytest.mark.skipif(_SEED is not None, reason="one seed is asked for")
@pytest.mark.parametrize("first", range(_FIRST, _SEEDS, _BLOCK))
def test_no_schedule_breaks_a_law(first: int) -> None:
    for seed in range(first, min(first + _BLOCK, _SEEDS)):
        random_schedule(seed).run(faults_end=FAULTS_END)


@pytest.mark.skipif(_SEED is None, reason="SIMULATION_SEED names none")
def test_the_schedule_of_one_seed() -> None:
    print(random_schedule(int(_SEED or 0)).run(faults_end=FAULTS_END).story())


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_seed_tells_the_same_story_again(seed: int) -> None:
    first, again = (random_schedule(seed).run(faults_end=FAULTS_END).story() for _ in range(2))

    assert first == again
    assert len(first.splitlines()) > 3
