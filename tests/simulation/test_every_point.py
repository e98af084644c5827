"""Every point at which an actor can be killed or paused, one by one; and those of a launch with those of an end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product

import pytest

from tests.simulation.director import Act, Cue, Named
from tests.simulation.schedule import Schedule

pytestmark = pytest.mark.usefixtures("theatre")

Script = dict[Cue | Named, Act]
_SHARES = 8  # tests that the pairs are dealt to, for several processes


def a_life(script: Script, *, remembers_attempts: bool) -> Schedule:
    """A machine comes and goes, and one appears that no row knows."""
    schedule = Schedule(0, script=script, remembers_attempts=remembers_attempts)
    schedule.at(0, schedule.deploy)
    schedule.at(20, schedule.somebody_rents_in_our_name)
    schedule.at(80, schedule.terminate_all)
    return schedule.run(faults_end=240)


def an_end_in_the_middle_of_a_launch(script: Script, *, remembers_attempts: bool) -> Schedule:
    schedule = Schedule(0, script=script, remembers_attempts=remembers_attempts)
    schedule.at(0, schedule.deploy)
    schedule.at(1, schedule.terminate_all)
    return schedule.run(faults_end=120)


def points(play: Callable[..., Schedule], *kinds: str, kill_only: bool = False) -> Sequence[Cue]:
    """All that tasks of these kinds come to when nothing fails. A commit can be cut short and never stretched."""
    names = play({}, remembers_attempts=False).director.names
    return [cue for cue, name in names.items() if cue.kind in kinds and (name == "commit") <= kill_only]


@pytest.mark.parametrize("act", Act)
@pytest.mark.parametrize("kind", ["provision", "terminate", "reconcile", "collect"])
def test_a_life_goes_well_whoever_is_held_up_at_any_point(kind: str, act: Act) -> None:
    cues = points(a_life, kind, kill_only=act is Act.KILL)
    assert len(cues) > 5

    for cue in cues:
        a_life({cue: act}, remembers_attempts=cue.nth % 2 == 0)


@pytest.mark.parametrize("share", range(_SHARES))
def test_a_launch_and_an_end_that_are_both_held_up_end_well(share: int) -> None:
    launch, end = (points(an_end_in_the_middle_of_a_launch, kind) for kind in ("provision", "terminate"))
    pairs = list(product(launch, end, (Act.KILL, Act.PAUSE), (Act.KILL, Act.PAUSE)))
    assert len(pairs) > 100

    for script in _dealt(pairs, share):
        an_end_in_the_middle_of_a_launch(script, remembers_attempts=False)


def _dealt(pairs: Sequence[tuple[Cue, Cue, Act, Act]], share: int) -> Iterable[Script]:
    for launch, end, first, second in pairs[share::_SHARES]:
        yield {launch: first, end: second}
