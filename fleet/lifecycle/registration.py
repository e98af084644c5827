"""A worker's machine makes itself known: its one-time bootstrap token against the key of its engine."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import transaction

from fleet import worker_keys
from fleet.lifecycle import boot, index
from fleet.lifecycle.world import World
from fleet.models import Attempt, Instance
from fleet.models.attempt import MAY_BILL
from fleet.states import RISING

log = logging.getLogger(__name__)

_SHORTEST_AGENT_TOKEN = 32


@dataclass(frozen=True, slots=True)
class WorkerSecrets:
    """What a machine is trusted with once it has made itself known."""

    engine_api_key: str = field(repr=False)
    hf_token: str = field(repr=False)  # empty: the operator has none


class BootstrapRefused(Exception):
    """The token is wrong, too old, used by another, or its instance is no longer rising."""


def exchange(
    *, instance_id: uuid.UUID, bootstrap_token: str, agent_token: str, now: datetime, world: World
) -> WorkerSecrets:
    """Trade the bootstrap token for what the engine needs. Raises BootstrapRefused.

    The agent brings the token that it will heartbeat with, and we keep its hash. So a repetition whose first
    answer was lost is told apart from a thief's, and answered again.
    """
    if len(agent_token) < _SHORTEST_AGENT_TOKEN:
        raise BootstrapRefused("the agent's token is too short")
    agent_sha256 = worker_keys.sha256(agent_token)
    with transaction.atomic():
        instance = _rising(instance_id)
        attempt = _attempt(instance, bootstrap_token)
        if now > attempt.started_at + boot.boot_deadline(instance):
            raise BootstrapRefused("the bootstrap token has expired")
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
