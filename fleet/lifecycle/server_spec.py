"""What the provider is asked for, as the interface wants it."""

from __future__ import annotations

from django.conf import settings

from fleet.lifecycle import user_data
from fleet.lifecycle.attempts import location_of
from fleet.models import Attempt, Instance
from fleet.providers.base import Ingress, ServerSpec

_SSH_PORT = 22


def of(instance: Instance, attempt: Attempt, *, ssh_key_ids: tuple[str, ...]) -> ServerSpec:
    return ServerSpec(
        attempt_id=str(attempt.pk),
        instance_id=str(instance.pk),
        location=location_of(attempt),
        instance_type=attempt.instance_type.name,
        root_volume_gb=user_data.root_volume_gb(instance),
        user_data=user_data.of(instance, attempt),
        ssh_key_ids=ssh_key_ids,
        ingress=_ingress(instance),
        spot=attempt.spot,
        owner=settings.INSTALLATION,
    )


def _ingress(instance: Instance) -> tuple[Ingress, ...]:
    engine = (Ingress(instance.port, cidr) for cidr in settings.ROUTER_CIDRS)
    return (*engine, *(Ingress(_SSH_PORT, cidr) for cidr in settings.SSH_CIDRS))
