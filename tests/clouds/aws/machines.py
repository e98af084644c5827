"""The life of moto's instances in time: moto's own are made and gone at once.

Installed into moto's EC2 backend for as long as the process lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from unittest import mock

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.exceptions import EC2ClientError, InvalidInstanceIdError
from moto.ec2.models import EC2Backend, ec2_backends
from moto.ec2.models.instances import Instance, InstanceBackend, InstanceState, StateReason

BEGINNING = datetime(2026, 10, 1, 12, tzinfo=UTC)
STEP = timedelta(seconds=2)  # from pending to running, and from each state to the next
REMEMBERED = timedelta(hours=1)  # a terminated instance, by name, tags and all

_PENDING, _RUNNING, _SHUTTING_DOWN, _STOPPING = (0, "pending"), (16, "running"), (32, "shutting-down"), (64, "stopping")


@dataclass(frozen=True, slots=True, order=True)
class _Change:
    due: datetime
    make: Callable[[], None] = field(compare=False)


class Machines:
    def __init__(self) -> None:
        self.reset()
        self._install()

    def reset(self) -> None:
        self.now = BEGINNING
        self.listing_lag = timedelta(0)
        self.deletes_are_held = False
        self.sold_out_at_start: set[tuple[str, str]] = set()  # type, zone
        self.free_address = ""  # what the next machines are given; empty: one of moto's choice
        self._changes: list[_Change] = []
        self._visible_from: dict[str, datetime] = {}
        self._forgotten_from: dict[str, datetime] = {}
        for _, _, backend in ec2_backends.iter_backends():
            backend.reset()

    def regions(self) -> Iterator[EC2Backend]:
        yield from ec2_backends[DEFAULT_ACCOUNT_ID].values()

    def region(self, name: str) -> EC2Backend:
        return ec2_backends[DEFAULT_ACCOUNT_ID][name]

    def existing(self) -> Iterator[Instance]:
        """Those that are not terminated, of all regions."""
        for backend in self.regions():
            yield from (one for one in backend.all_instances() if one.state != "terminated")

    def list_all_now(self) -> None:
        """The listings catch up."""
        self._visible_from.clear()

    def changes_until(self, moment: datetime) -> Iterator[datetime]:
        """Make what is due until then, in order; yields the instant of each change."""
        while self._changes and min(self._changes).due <= moment:
            change = min(self._changes)
            self._changes.remove(change)
            self.now = max(self.now, change.due)
            change.make()
            yield self.now
        self.now = max(self.now, moment)

    # --- what moto's backend does instead ---------------------------------------------------------------------------

    def _install(self) -> None:
        names = (
            "run_instances",
            "start_instances",
            "stop_instances",
            "terminate_instances",
            "describe_instances",
            "get_reservations_by_instance_ids",
        )
        for name in names:
            mock.patch.object(InstanceBackend, name, self._in_place_of(name)).start()

    def _in_place_of(self, name: str) -> Callable[..., Any]:
        original, ours = getattr(InstanceBackend, name), getattr(self, f"_{name}")
        return lambda backend, *args, **kwargs: ours(backend, original, *args, **kwargs)

    def _run_instances(self, backend: EC2Backend, original: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = original(backend, *args, **kwargs)
        for instance in reservation.instances:
            instance.launch_time = self.now
            instance.nics[0].public_ip = self.free_address or instance.public_ip
            for _, device in instance.get_block_device_mapping:
                backend.get_volume(device.volume_id).create_time = self.now
            self._visible_from[instance.id] = self.now + self.listing_lag
            self._set(instance, _PENDING)
            if (instance.instance_type, instance.availability_zone) in self.sold_out_at_start:
                self._later(timedelta(0), partial(self._give_up, instance))
            else:
                self._later(STEP, partial(self._become_running, instance))
        return reservation

    def _start_instances(self, backend: EC2Backend, original: Any, instance_ids: list[str]) -> Any:
        for instance in backend.get_multi_instances_by_id(instance_ids):
            if instance.state not in {"stopped", "pending", "running"}:
                raise EC2ClientError("IncorrectInstanceState", f"{instance.id} is {instance.state}")
        started = original(backend, instance_ids)
        for instance, _ in started:
            self._set(instance, _PENDING)
            self._later(STEP, partial(self._become_running, instance))
        return started

    def _stop_instances(self, backend: EC2Backend, original: Any, instance_ids: list[str]) -> Any:
        instances = backend.get_multi_instances_by_id(instance_ids)
        before = [(instance, InstanceState(instance.state, instance.state_code)) for instance in instances]
        for instance in instances:
            self._set(instance, _STOPPING)
            self._later(STEP, partial(self._become_stopped, instance))
        return before

    def _terminate_instances(self, backend: EC2Backend, original: Any, instance_ids: list[str]) -> Any:
        if any(self._is_forgotten(instance_id) for instance_id in instance_ids):
            raise InvalidInstanceIdError(instance_ids)
        instances = backend.get_multi_instances_by_id(instance_ids)
        before = [(instance, InstanceState(instance.state, instance.state_code)) for instance in instances]
        for instance in instances:
            if instance.state in {"shutting-down", "terminated"}:
                continue
            self._set(instance, _SHUTTING_DOWN)
            if not self.deletes_are_held:
                self._later(STEP, partial(self._become_terminated, instance))
        return before

    def _describe_instances(self, backend: EC2Backend, original: Any, filters: Any = None) -> Any:
        reservations = original(backend, filters)
        return [one for one in reservations if all(self._is_visible(instance.id) for instance in one.instances)]

    def _get_reservations_by_instance_ids(
        self, backend: EC2Backend, original: Any, instance_ids: list[str], filters: Any = None
    ) -> Any:
        hidden = [instance_id for instance_id in instance_ids if not self._is_visible(instance_id)]
        if hidden:
            raise InvalidInstanceIdError(hidden)
        return original(backend, instance_ids, filters=filters)

    # --- changes ----------------------------------------------------------------------------------------------------

    def _later(self, wait: timedelta, make: Callable[[], Any]) -> None:
        self._changes.append(_Change(self.now + wait, make))

    def _is_visible(self, instance_id: str) -> bool:
        return self.now >= self._visible_from.get(instance_id, self.now) and not self._is_forgotten(instance_id)

    def _is_forgotten(self, instance_id: str) -> bool:
        return instance_id in self._forgotten_from and self.now >= self._forgotten_from[instance_id]

    def _set(self, instance: Instance, state: tuple[int, str]) -> None:
        instance._state.code, instance._state.name = state

    def _become_running(self, instance: Instance) -> None:
        if instance.state == "pending":
            self._set(instance, _RUNNING)

    def _become_terminated(self, instance: Instance) -> None:
        instance.terminate()
        self._forgotten_from[instance.id] = self.now + REMEMBERED

    def _become_stopped(self, instance: Instance) -> None:
        if instance.state == "stopping":
            instance.stop()

    def _give_up(self, instance: Instance) -> None:
        self._become_terminated(instance)
        code = "Server.InsufficientInstanceCapacity"
        instance.state_reason = StateReason(f"{code}: Insufficient capacity to satisfy instance request", code)
