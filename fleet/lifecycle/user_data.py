"""What an instance's machine is told at its first boot."""

from __future__ import annotations

import math

from django.conf import settings

from fleet import worker_keys
from fleet.agent import cloud_init
from fleet.models import Attempt, Instance
from fleet.providers.base import InvalidSpec

_SYSTEM_AND_IMAGES_GB = 60  # the OS with its driver, and the engine's container image
_SPARE = 1.2  # Hugging Face keeps a download beside the file until it is whole


def of(instance: Instance, attempt: Attempt) -> str:
    """cloud-init. The same bytes for the same attempt, always: an AWS create is only idempotent with equal input.

    Raises InvalidSpec if it is more than a provider takes.
    """
    try:
        return cloud_init.render(_config(instance, attempt))
    except cloud_init.TooLarge as error:
        raise InvalidSpec(f"{error}; {len(attempt.authorized_keys)} SSH keys are in it: keep fewer") from error


def bootstrap_sha256(attempt: Attempt) -> str:
    return worker_keys.sha256(worker_keys.bootstrap_token(attempt.pk))


def root_volume_gb(instance: Instance) -> int:
    """Room for the system, the engine's image and the model's weights."""
    weights_gb: float = instance.gpu_profile["weights_gb"]
    return _SYSTEM_AND_IMAGES_GB + math.ceil(weights_gb * _SPARE)


def _config(instance: Instance, attempt: Attempt) -> cloud_init.WorkerConfig:
    return cloud_init.WorkerConfig(
        instance_id=str(instance.pk),
        bootstrap_token=worker_keys.bootstrap_token(attempt.pk),
        control_plane_url=settings.CONTROL_PLANE_URL,
        router_url=settings.ROUTER_URL,
        heartbeat_interval=settings.HEARTBEAT_INTERVAL,
        poweroff_after=settings.AGENT_POWEROFF_AFTER,
        model_id=instance.deployment.model.model_id,
        port=instance.port,
        tensor_parallel_size=instance.gpu_profile["tensor_parallel_size"],
        max_model_len=instance.deployment.request.context_length,
        spot=attempt.instance_type.provider.name if attempt.spot else "",
        authorized_keys=tuple(attempt.authorized_keys),
    )
