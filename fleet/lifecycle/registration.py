"""A worker's machine makes itself known: its one-time bootstrap token against the key of its engine."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import transaction

from fleet import worker_keys
from fleet.lifecycle import boot, index, refusals
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance
from fleet.models.attempt import MAY_BILL
from fleet.states import RISING
from routing import addresses

log = logging.getLogger(__name__)

_SHORTEST_AGENT_TOKEN = 32


@dataclass(frozen=True, slots=True)
class WorkerSecrets:
    """What a machine is trusted with once it has made itself known."""

    engine_api_key: str = field(repr=False)
    hf_token: str = field(repr=False)  # empty: the operator has none


class BootstrapRefused(Exception):
    """The token is wrong, too old, used by another, or its instance is no longer rising."""


class AddressNotConfirmed(Exception):
    """The token is right, but the provider has not told that its machine is at this address: ask again soon.

    A machine may be up before we have asked its provider where it is, and may get another address. So this is never
    the last word; the token stays unused, and whoever is elsewhere never gets the key.
    """

    def __init__(self, instance: Instance) -> None:
        super().__init__(f"{instance} is at {instance.ip_address or 'an unknown address'}")
        self.instance = instance


def exchange(
    *, instance_id: uuid.UUID, bootstrap_token: str, agent_token: str, address: str, now: datetime, world: World
) -> WorkerSecrets:
    """Trade the bootstrap token for what the engine needs. Raises BootstrapRefused, AddressNotConfirmed.

    The agent brings the token that it will heartbeat with, and we keep its hash. So a repetition whose first
    answer was lost is told apart from a thief's, and answered again. `address`: the caller's, canonical.
    """
    if len(agent_token) < _SHORTEST_AGENT_TOKEN:
        raise BootstrapRefused("the agent's token is too short")
    try:
        return _exchange(instance_id, bootstrap_token, agent_token, address=address, now=now, world=world)
    except AddressNotConfirmed as elsewhere:
        if elsewhere.instance.ip_address is not None:
            refusals.note(elsewhere.instance, reason=refusals.BOOTSTRAP, address=address, first_at=now, last_at=now)
        raise


def _exchange(
    instance_id: uuid.UUID, bootstrap_token: str, agent_token: str, *, address: str, now: datetime, world: World
) -> WorkerSecrets:
    agent_sha256 = worker_keys.sha256(agent_token)
    with transaction.atomic():
        instance = _rising(instance_id)
        attempt = _attempt(instance, bootstrap_token)
        if now > attempt.started_at + boot.boot_deadline(instance):
            raise BootstrapRefused("the bootstrap token has expired")
        if instance.ip_address is None or addresses.canonical(instance.ip_address) != address:
            raise AddressNotConfirmed(instance)
        first = Attempt.objects.filter(pk=attempt.pk, bootstrap_used_at__isnull=True).update(bootstrap_used_at=now)
        if first:
            instance.agent_token_sha256, instance.registered_at = agent_sha256, now
            instance.save(update_fields=["agent_token_sha256", "registered_at"])
            transaction.on_commit(lambda: index.publish(instance, world), robust=True)
        elif instance.agent_token_sha256 != agent_sha256:
            log.error("ALARM %s: its bootstrap token was used a second time, by somebody else", instance)
            raise BootstrapRefused("the bootstrap token was used before")
    if instance.api_key is None:
        raise BootstrapRefused("the instance has no engine key")
    return WorkerSecrets(
        engine_api_key=worker_keys.open_engine_key(instance.api_key),
        hf_token=settings.HF_TOKEN,
    )


def _rising(instance_id: uuid.UUID) -> Instance:
    instance = (
        Instance.objects.select_for_update(of=("self",))
        .select_related("deployment__model")
        .filter(pk=instance_id, status__in=sorted(RISING))
        .first()
    )
    if instance is None:
        raise BootstrapRefused("no such instance is coming up")
    return instance


def _attempt(instance: Instance, bootstrap_token: str) -> Attempt:
    attempt = instance.attempts.filter(
        outcome__in=sorted(MAY_BILL), bootstrap_sha256=worker_keys.sha256(bootstrap_token)
    ).first()
    if attempt is None:
        raise BootstrapRefused("the bootstrap token is not the one of this instance's machine")
    return attempt
