"""One machine rented from a provider: its state, its intent, and the lease under which it is worked on."""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

from catalog.models import InstanceType, Provider, Zone
from fleet.models.lease import LeaseLost
from fleet.states import FINAL, LIVE, OVER, Status, may_move

log = logging.getLogger(__name__)

ENGINE_PORT = 8000  # vLLM's default


class InstanceQuerySet(models.QuerySet["Instance"]):
    def live(self) -> InstanceQuerySet:
        """Instances whose machine may exist and cost money."""
        return self.filter(status__in=sorted(LIVE))

    def due(self, now: datetime) -> InstanceQuerySet:
        """Instances that want a step taken now and that nobody is working on."""
        free = Q(lock_expires_at__isnull=True) | Q(lock_expires_at__lte=now)
        return self.live().filter(free, next_attempt_at__lte=now)


class Instance(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="instances")
    zone = models.ForeignKey(Zone, on_delete=models.PROTECT, related_name="instances")
    instance_type = models.ForeignKey(InstanceType, on_delete=models.PROTECT, related_name="instances")
    provider_instance_id = models.CharField(max_length=255, null=True, blank=True)
    ip_address = models.GenericIPAddressField(null=True, blank=True)
    api_key = models.CharField(max_length=255, null=True, blank=True)  # of the worker; sealed
    status = models.CharField(max_length=50, choices=Status.choices, default=Status.PROVISIONING)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    terminated_at = models.DateTimeField(null=True, blank=True)
    gpu_profile = models.JSONField()

    port = models.IntegerField(default=ENGINE_PORT, help_text="Of the engine, on the machine's address")
    price_per_hour = models.DecimalField(max_digits=12, decimal_places=6)
    currency = models.CharField(max_length=3)

    interrupted_at = models.DateTimeField(
        null=True, blank=True, help_text="When the provider takes its spot machine back, as it announced"
    )

    status_changed_at = models.DateTimeField(db_default=Now())
    status_reason = models.TextField(blank=True)

    # The intent to end it, written by the product plane; the orchestrator acts on it.
    termination_requested_at = models.DateTimeField(null=True, blank=True)
    termination_reason = models.TextField(blank=True)
    termination_actor = models.CharField(max_length=255, blank=True)
    drain = models.BooleanField(default=True, help_text="Whether running requests may end before the machine goes")

    # Orchestration: when the next step is due, who takes it, and what went wrong last.
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    lock_token = models.UUIDField(null=True, blank=True)
    lock_expires_at = models.DateTimeField(null=True, blank=True)
    failures = models.IntegerField(default=0, help_text="Steps that failed in a row")
    last_error = models.TextField(blank=True)

    # The worker.
    agent_token_sha256 = models.CharField(max_length=64, blank=True)
    registered_at = models.DateTimeField(null=True, blank=True)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True)
    worker_ready = models.BooleanField(default=False, help_text="The worker's own last word")
    unready_since = models.DateTimeField(null=True, blank=True, help_text="Heard since then, and never as ready")
    worker_detail = models.TextField(blank=True, help_text="Why the worker is not ready, in its own words")

    objects = InstanceQuerySet.as_manager()

    class Meta:
        db_table = "instances"
        ordering = ["-created_at"]
        permissions = [("terminate_instance", "Can drain and terminate instances")]
        indexes = [
            models.Index(fields=["-created_at"], name="instances_newest"),
            models.Index(fields=["next_attempt_at"], condition=~Q(status__in=sorted(FINAL)), name="instances_due"),
            models.Index(fields=["status"], condition=~Q(status__in=sorted(FINAL)), name="instances_live"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=Status.values), name="instances_status_known"),
            models.CheckConstraint(
                condition=Q(status=Status.TERMINATED, terminated_at__isnull=False)
                | (~Q(status=Status.TERMINATED) & Q(terminated_at__isnull=True)),
                name="instances_terminated_at",
            ),
            # Nothing on its way up or down is ever forgotten: its next step has a time.
            models.CheckConstraint(
                condition=Q(status__in=[Status.READY, Status.TERMINATED]) | Q(next_attempt_at__isnull=False),
                name="instances_always_due",
            ),
        ]

    def __str__(self) -> str:
        return f"instance {str(self.id)[:8]}"

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    # --- moves ------------------------------------------------------------------------------------------------

    def move(
        self, new: Status, *, reason: str, actor: str, at: datetime, lease: uuid.UUID | None = None, **fields: Any
    ) -> bool:
        """Move from the state this object was read in to `new`, writing `fields` with it.

        The only way in which a status changes. False: somebody else moved it first, or the lease is lost;
        nothing was written, and that is normal. Raises ValueError for an edge that does not exist.
        """
        old = Status(self.status)
        if not may_move(old, new):
            raise ValueError(f"no edge from {old} to {new}")
        changes = {"status": new, "status_changed_at": at, "status_reason": reason, **fields}
        mine = Instance.objects.filter(pk=self.pk, status=old)
        if lease is not None:
            mine = mine.filter(lock_token=lease)
        with transaction.atomic():
            if mine.update(**changes) != 1:
                return False
            self.transitions.create(from_status=old, to_status=new, reason=reason, actor=actor, at=at)
        for name, value in changes.items():
            setattr(self, name, value)
        log.info("%s: %s to %s: %s", self, old, new, reason)
        return True

    # --- the lease ----------------------------------------------------------------------------------------------

    @classmethod
    def lease(cls, instance_id: uuid.UUID, *, now: datetime, seconds: float) -> Instance | None:
        """Take the instance for `seconds`. None: it is gone, or somebody else works on it."""
        token = uuid.uuid4()
        free = Q(lock_expires_at__isnull=True) | Q(lock_expires_at__lte=now)
        taken = cls.objects.live().filter(free, pk=instance_id)
        if taken.update(lock_token=token, lock_expires_at=now + timedelta(seconds=seconds)) != 1:
            return None
        return (
            cls.objects.select_related(
                "provider", "zone__region", "instance_type", "deployment__model", "deployment__request"
            )
            .filter(pk=instance_id, lock_token=token)
            .first()
        )

    def confirm_lease(self) -> None:
        """Raises LeaseLost if the lease is no longer ours: for the moment before a provider is asked."""
        if not Instance.objects.filter(pk=self.pk, lock_token=self.lock_token).exists():
            raise LeaseLost(str(self.pk))

    def write(self, **fields: Any) -> None:
        """Write under the lease. Raises LeaseLost if it is no longer ours."""
        if Instance.objects.filter(pk=self.pk, lock_token=self.lock_token).update(**fields) != 1:
            raise LeaseLost(str(self.pk))
        for name, value in fields.items():
            setattr(self, name, value)

    def release(self, *, due: datetime | None, **fields: Any) -> None:
        """End the lease; the next step is due at `due`. A lease that is lost already needs no releasing.

        An intent that came in meanwhile has set a time of its own, and keeps it.
        """
        as_we_know_it = Q(next_attempt_at=self.next_attempt_at) if self.next_attempt_at else Q(next_attempt_at=None)
        Instance.objects.filter(pk=self.pk, lock_token=self.lock_token).update(
            lock_token=None,
            lock_expires_at=None,
            next_attempt_at=Case(
                When(as_we_know_it, then=Value(due, output_field=models.DateTimeField())),
                default=F("next_attempt_at"),
            ),
            **fields,
        )
