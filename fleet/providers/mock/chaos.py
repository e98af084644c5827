"""How the mock cloud can be made to misbehave: the settings, their meaning, and what they say now.

Kept in the store, so that every process sees a change at its next call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet.providers.mock.offers import price_list
from fleet.providers.mock.store import Books


class BadSetting(ValueError):
    """No such setting, or not a value for it; the message says what would be one."""


@dataclass(frozen=True, slots=True)
class Setting:
    meaning: str
    default: str
    check: Callable[[str], None]


def _switch(value: str) -> None:
    if value not in ("on", "off") and not value.isdigit():
        raise BadSetting(f"{value!r} is neither on, off nor a number of times")


def _amount(value: str) -> None:
    try:
        good = float(value) >= 0
    except ValueError:
        good = False
    if not good:
        raise BadSetting(f"{value!r} is not a number from 0 upwards")


def _rate(value: str) -> None:
    _amount(value)
    if float(value) == 0:
        raise BadSetting("0 tokens a second would never end")


def _machines(value: str) -> None:
    if value not in (PROCESSES, SIMULATED):
        raise BadSetting(f"{value!r} is neither {PROCESSES} nor {SIMULATED}")


def _places(value: str) -> None:
    zones = {zone for zones in price_list().regions.values() for zone in zones}
    for part in _parts(value):
        name, at, zone = part.partition("@")
        if part != "*" and not ((not name or name in price_list().types) and (not at or zone in zones)):
            raise BadSetting(f"{part!r} is none of *, TYPE, @ZONE, TYPE@ZONE with a type and a zone of the mock cloud")


def _parts(value: str) -> set[str]:
    return {part.strip() for part in value.split(",")} - {"", "none"}  # "none" is what the list of settings shows


# What a machine is: processes of its own, or a line in the books, and whoever reads them plays its agent. A thousand
# machines fit on a laptop only as the latter (benchmarks.swarm).
PROCESSES, SIMULATED = "processes", "simulated"

SETTINGS: dict[str, Setting] = {
    "machines": Setting(
        f"what a machine started from now on is: {PROCESSES}, or {SIMULATED} by another program", PROCESSES, _machines
    ),
    "calls_per_second": Setting("calls beyond it are answered with Throttled, and counted; 0: no limit", "0", _amount),
    "unavailable": Setting("calls that are answered with Unavailable: on, off or the next N", "off", _switch),
    "throttled": Setting("calls that are answered with Throttled: on, off or the next N", "off", _switch),
    "auth_failure": Setting("calls that are refused for their credentials: on, off or the next N", "off", _switch),
    "conflict": Setting("calls that meet another that is under way: on, off or the next N", "off", _switch),
    "quota": Setting("creates that are refused for the quota: on, off or the next N", "off", _switch),
    "stockout": Setting("what can't be created: a list of TYPE, @ZONE or TYPE@ZONE; * is all", "", _places),
    "stockout_at_start": Setting("what can be created but not started; a list like stockout's", "", _places),
    "lost_requests": Setting("creates that never arrive, and time out: on, off or the next N", "off", _switch),
    "lost_answers": Setting("creates that are done, and time out: on, off or the next N", "off", _switch),
    "late_listing_seconds": Setting("how long a new server is missing from find and list", "0", _amount),
    "partial_listings": Setting("listings that end half-way: on, off or the next N", "off", _switch),
    "stuck_deletes": Setting("destroy steps that get nowhere: on, off or the next N", "off", _switch),
    "start_seconds": Setting("from the start to running, with an address", "0.2", _amount),
    "boot_seconds": Setting("from the start to the agent, for machines started from now on", "0.2", _amount),
    "load_seconds": Setting("how long the engine loads, for machines started from now on", "0", _amount),
    "ttft_seconds": Setting("the engine's time to first token, for machines started from now on", "0.2", _amount),
    "tokens_per_second": Setting("the engine's speed, for machines started from now on", "50", _rate),
}


class Chaos:
    """The settings as they are now, within a transaction."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._values = books.chaos()

    def values(self) -> dict[str, str]:
        return {name: self._value(name) for name in SETTINGS}

    def set(self, name: str, value: str) -> None:
        """Raises BadSetting."""
        if name not in SETTINGS:
            raise BadSetting(f"no setting {name!r}; there are: {', '.join(SETTINGS)}")
        SETTINGS[name].check(value)
        self._write(name, value)

    def clear(self) -> None:
        for name in list(self._values):
            self._write(name, None)

    def strikes(self, name: str) -> bool:
        """Whether the fault happens to this call; one of "the next N" is used up."""
        value = self._value(name)
        if not value.isdigit():
            return value == "on"
        if int(value) == 0:
            return False
        self._write(name, str(int(value) - 1))
        return True

    def amount(self, name: str) -> float:
        return float(self._value(name))

    def simulates_machines(self) -> bool:
        return self._value("machines") == SIMULATED

    def covers(self, name: str, *, instance_type: str, zone: str) -> bool:
        """Whether a list of places holds this type in this zone."""
        return not _parts(self._value(name)).isdisjoint({"*", instance_type, f"@{zone}", f"{instance_type}@{zone}"})

    def _value(self, name: str) -> str:
        return self._values.get(name, SETTINGS[name].default)

    def _write(self, name: str, value: str | None) -> None:
        self._books.set_chaos(name, value)
        if value is None:
            self._values.pop(name, None)
        else:
            self._values[name] = value
