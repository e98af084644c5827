"""What an operator should look at first, on the admin's front page."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from django.db.models import Model
from django.urls import reverse

from fleet.admin import history, money
from fleet.models import ClockTick, Instance, Leak, Sweep
from fleet.states import Status


class Concern(NamedTuple):
    text: str
    url: str


def concerns(now: datetime) -> Iterator[Concern]:
    """The most expensive first."""
    if leaks := list(Leak.objects.filter(ended_at=None).select_related("rental")):
        cost = money.hourly(leak.rental for leak in leaks)
        yield Concern(f"{_count(len(leaks), 'thing leaks', 'things leak')} money, {cost}", _list(Leak))
    if failed := Instance.objects.filter(status=Status.FAILED).count():
        text = f"{_count(failed, 'instance has', 'instances have')} failed, and may bill until gone"
        yield Concern(text, f"{_list(Instance)}?status__exact={Status.FAILED}")
    if missed := sum(money.was_missed(sweep, sweep.complete_at, now) for sweep in Sweep.objects.all()):
        text = f"{_count(missed, 'place was', 'places were')} not wholly listed of late: what leaks there is not seen"
        yield Concern(text, _list(Sweep))
    if late := sum(history.is_late(tick, now) for tick in ClockTick.objects.all()):
        yield Concern(f"{_count(late, 'clock is', 'clocks are')} late: is the orchestrator up?", _list(ClockTick))


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _list(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
