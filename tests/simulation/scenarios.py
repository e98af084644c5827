"""Schedules by chance: one seed says what is asked for, what fails, how often, and who is paused or killed."""

from __future__ import annotations

import random
from datetime import timedelta

from fleet.providers.base import AuthError, ProviderError, Unavailable
from tests.simulation.director import Chances
from tests.simulation.schedule import Schedule

FAULTS_END = 900.0  # seconds after the start; those who are paused come back later still

# Faults, with how often they strike in a schedule that has them.
_OFTEN = {
    "kill": 0.01,
    "pause": 0.012,
    "lose_answer": 0.15,
    "lose_request": 0.15,
    "throttle": 0.1,
    "unavailable": 0.1,
    "quota": 0.2,
    "sold_out": 0.3,
    "sold_out_at_start": 0.3,
    "stuck_delete": 0.2,
    "late_listing": 0.8,
    "late_get": 0.5,
    "partial_listing": 0.2,
    "lose_message": 0.3,
    "double_message": 0.3,
    "late_message": 0.2,
    "database_error": 0.01,
    "ambiguous_commit": 0.01,
    "redis_error": 0.1,
}
_HAS_FAULT = 0.35  # of the schedules, for each fault


def random_schedule(seed: int) -> Schedule:
    """The schedule of a seed, planned and not yet played."""
    rng = random.Random(f"plan {seed}")
    schedule = Schedule(seed, chances=_chances(rng), remembers_attempts=rng.random() < 0.4, beats=rng.choice([1, 1, 2]))
    for _ in range(rng.choice([1, 1, 1, 2])):
        replicas = rng.choice([1, 1, 1, 2])
        schedule.at(rng.uniform(0, 60), lambda replicas=replicas: schedule.deploy(replicas=replicas))  # type: ignore[misc]
    _plan_ends(schedule, rng)
    _plan_mishaps(schedule, rng)
    return schedule


def _chances(rng: random.Random) -> Chances:
    chosen = {name: often * rng.uniform(0.2, 1) for name, often in _OFTEN.items() if rng.random() < _HAS_FAULT}
    return Chances(**chosen, long_pause=rng.random())


def _plan_ends(schedule: Schedule, rng: random.Random) -> None:
    for _ in range(rng.choice([0, 1, 1, 2])):
        drain = rng.random() < 0.5
        schedule.at(rng.uniform(0, 500), lambda drain=drain: schedule.terminate_all(drain=drain))  # type: ignore[misc]


def _plan_mishaps(schedule: Schedule, rng: random.Random) -> None:
    if rng.random() < 0.3:
        schedule.at(rng.uniform(30, 500), schedule.a_machine_dies)
    if rng.random() < 0.3:
        schedule.at(rng.uniform(30, 500), schedule.a_machine_falls_silent)
    if rng.random() < 0.3:
        schedule.at(rng.uniform(0, 500), schedule.flush_redis)
    if rng.random() < 0.3:
        schedule.at(rng.uniform(0, 500), schedule.somebody_rents_in_our_name)
    if rng.random() < 0.3:
        schedule.at(rng.uniform(0, 500), schedule.somebody_else_rents)
    if rng.random() < 0.2:
        error: ProviderError = rng.choice([Unavailable("500 to everything"), AuthError("401 to everything")])
        lasts = timedelta(seconds=rng.uniform(60, 3600))
        schedule.at(rng.uniform(0, 300), lambda: schedule.cloud_refuses(error, lasts=lasts))
