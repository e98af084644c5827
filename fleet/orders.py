"""What an operator may ask for: an order, checked against the catalogue, in values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

from catalog.models import LlmModel
from catalog.placement import Limits, Plan

MAX_REPLICAS = 64


class CommandRefused(Exception):
    """What was asked for can't be done; `field` names what to change. Nothing was written."""

    def __init__(self, field: str, message: str, *, code: str = "invalid", plan: Plan | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.message = message
        self.code = code
        self.plan = plan


class IdempotencyConflict(CommandRefused):
    """The idempotency key was used before, for something else."""

    def __init__(self) -> None:
        super().__init__(
            "Idempotency-Key", "this key was used before with another request; use a new one", code="idempotency"
        )


@dataclass(frozen=True, slots=True)
class DeploymentOrder:
    model_id: str  # the Hugging Face id
    replicas: int = 1
    context_length: int | None = None  # tokens; None: the catalogue's default
    concurrency: int | None = None  # sequences at once; None: the catalogue's default
    limits: Limits = field(default_factory=Limits)

    def fingerprint(self) -> str:
        """SHA-256 in hex of what is asked: equal orders have equal fingerprints."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True, default=str).encode()).hexdigest()


def model_to_deploy(order: DeploymentOrder) -> LlmModel:
    if not 1 <= order.replicas <= MAX_REPLICAS:
        raise CommandRefused("replicas", f"ask for 1 to {MAX_REPLICAS} replicas, not {order.replicas}")
    model = LlmModel.objects.filter(model_id=order.model_id).first()
    if model is None:
        raise CommandRefused("model", f"the catalogue has no model {order.model_id!r}", code="not_found")
    if not model.is_active:
        raise CommandRefused("model", f"{order.model_id} is switched off in the catalogue", code="inactive")
    return model
