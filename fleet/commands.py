"""What the product plane may ask of the orchestrator: record the intent, then wake the orchestrator.

API and admin call these and nothing else. None of them talks to a provider or moves an instance. The row is
the command; the message published after the commit only makes it quick, and may be lost.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db import IntegrityError, transaction

from catalog import offers, placement, sync
from catalog.fit import InvalidRequest, ModelNeed
from catalog.models import LlmModel, SshKey
from catalog.placement import Limits, Plan, RankedOffer
from fleet import accounts, placing, tasks, worker_keys
from fleet.models import Attempt, Deployment, DeploymentRequest, Instance, Leak, ProviderAccount, Rental, Transition
from fleet.orders import (
    CommandRefused,
    DeploymentOrder,
    IdempotencyConflict,
    model_to_deploy,
)
from fleet.states import FINAL, Status

__all__ = [
    "Actor",
    "CommandRefused",
    "DeploymentOrder",
    "IdempotencyConflict",
    "approve_leaks",
    "plan_deployment",
    "remove_account",
    "request_catalog_sync",
    "request_deployment",
    "request_termination",
    "retry_deployment",
]


# Of an order; the clock finds the others in a moment. It knows how long the queue is, and that what was begun comes
# before what was not: a thousand messages in front would make all of them wait for the last.
_WOKEN_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: in words for the history, and as a user where there is one."""

    name: str
    user_id: uuid.UUID | None = None


def plan_deployment(order: DeploymentOrder) -> Plan:
    """The dry run. Raises CommandRefused for an order that makes no sense; a plan may well be empty."""
    return _plan(_need(model_to_deploy(order), order), order)


def request_deployment(
    order: DeploymentOrder, *, actor: Actor, now: datetime, idempotency_key: str | None = None
) -> DeploymentRequest:
    """Record that `replicas` instances of a model are wanted, and wake the orchestrator for each.

    All of them are written in one transaction. With an idempotency key, the same order by the same user is
    recorded once, and a repetition gets the first one back.
    Raises CommandRefused (with the plan, where nothing fits) and IdempotencyConflict.
    """
    earlier = _earlier(order, actor, idempotency_key)
    if earlier is not None:
        return earlier
    model = model_to_deploy(order)
    need = _need(model, order)
    plan = _plan(need, order)
    if not plan.ranked:
        raise CommandRefused("model", f"no offer fits {order.model_id}", code="nothing_fits", plan=plan)
    try:
        with transaction.atomic():
            request = _record(order, model, need, plan, actor=actor, now=now, idempotency_key=idempotency_key)
    except IntegrityError:
        # A twin of this request, with the same idempotency key, was quicker.
        earlier = _earlier(order, actor, idempotency_key)
        if earlier is None:
            raise
        return earlier
    return request


def retry_deployment(
    deployment_id: uuid.UUID, *, actor: Actor, now: datetime, idempotency_key: str | None = None
) -> DeploymentRequest:
    """Ask once more, with a new plan, for one instance of what a deployment asked for.

    With an idempotency key, a repetition gets the first request back, as in `request_deployment`.
    Raises Deployment.DoesNotExist, CommandRefused while its instance is still rising or serving.
    """
    deployment = Deployment.objects.select_related("request", "model", "instance").get(pk=deployment_id)
    if not deployment.instance.is_over:
        raise CommandRefused("deployment", "its instance has not failed and is not terminated", code="not_over")
    asked = deployment.request
    order = DeploymentOrder(
        model_id=deployment.model.model_id,
        context_length=asked.context_length,
        concurrency=asked.concurrency,
        limits=Limits.from_json(asked.limits),
    )
    return request_deployment(order, actor=actor, now=now, idempotency_key=idempotency_key)


def request_termination(
    instance_id: uuid.UUID, *, actor: Actor, reason: str, now: datetime, drain: bool = True
) -> Instance:
    """Record that an instance is to end, and wake the orchestrator. Safe to repeat.

    `drain`: requests that run may end first. Asking again without it makes an end that is draining immediate.
    Raises Instance.DoesNotExist.
    """
    with transaction.atomic():
        instance = Instance.objects.select_for_update().get(pk=instance_id)
        if instance.status in FINAL:
            return instance
        if instance.termination_requested_at is None:
            instance.termination_requested_at = now
            instance.termination_reason = reason
            instance.termination_actor = actor.name
            instance.drain = drain
        instance.drain = instance.drain and drain
        instance.next_attempt_at = now
        instance.save(
            update_fields=[
                "termination_requested_at",
                "termination_reason",
                "termination_actor",
                "drain",
                "next_attempt_at",
            ]
        )
        transaction.on_commit(lambda: tasks.wake(tasks.TERMINATE, [instance.pk]), robust=True)
    return instance


def remove_account(account_id: uuid.UUID) -> str:
    """Forget an account's credentials; returns its name, which what it paid for keeps. Nothing is destroyed.

    Raises ProviderAccount.DoesNotExist, CommandRefused while something of it may be billed.
    """
    with transaction.atomic():
        # Locked first: a launch holds the account until its attempt is committed (`accounts.hold`), so it is either
        # seen here, or finds the account gone.
        account = ProviderAccount.objects.select_for_update().get(pk=account_id)
        reasons = accounts.what_may_bill(account)
        if reasons:
            raise CommandRefused("account", f"{account} can't be removed: {'; '.join(reasons)}", code="in_use")
        for table in (Attempt, Rental):
            table._default_manager.filter(account=account).update(account=None, account_name=account.name)
        if accounts.home(account.provider.name) == account.pk:
            SshKey.objects.filter(provider=account.provider).update(provider_key_id=None)
        account.delete()
    return account.name


def request_catalog_sync(providers: Collection[str] = (), *, actor: Actor, now: datetime) -> Sequence[str]:
    """Record that the catalogue is to follow these providers now (none named: all that are enabled); returns them.

    Raises CommandRefused for one that is not enabled.
    """
    names = sorted(set(providers) or settings.ENABLED_PROVIDERS)
    for name in names:
        if name not in settings.ENABLED_PROVIDERS:
            enabled = ", ".join(settings.ENABLED_PROVIDERS) or "none"
            raise CommandRefused("providers", f"provider {name} is not enabled; enabled: {enabled}")
    with transaction.atomic():
        sync.request(names, actor=actor.name, now=now)
        transaction.on_commit(lambda: tasks.publish(tasks.SYNC_CATALOG, [(name,) for name in names]), robust=True)
    return names


def approve_leaks(leak_ids: Sequence[uuid.UUID], *, actor: Actor, now: datetime) -> int:
    """Let go what the brake holds: each of these may be destroyed, however many they are.

    It still is only if nobody claims it by then. Returns for how many the approval is news.
    """
    with transaction.atomic():
        leaking = Leak.objects.filter(pk__in=leak_ids, ended_at=None, approved_by="")
        approved = leaking.update(approved_by=actor.name, next_attempt_at=now)
        transaction.on_commit(lambda: tasks.wake(tasks.COLLECT, leak_ids), robust=True)
    return approved


# --- steps of the above -------------------------------------------------------------------------------------------


def _need(model: LlmModel, order: DeploymentOrder) -> ModelNeed:
    try:
        return offers.need(model, context_length=order.context_length, concurrency=order.concurrency)
    except InvalidRequest as error:
        raise CommandRefused(error.field, error.message) from error


def _plan(need: ModelNeed, order: DeploymentOrder) -> Plan:
    try:
        return placing.rentable(placement.plan(need, offers.current_offers(), order.limits))
    except InvalidRequest as error:
        raise CommandRefused(f"limits.{error.field}", error.message) from error


def _earlier(order: DeploymentOrder, actor: Actor, idempotency_key: str | None) -> DeploymentRequest | None:
    if idempotency_key is None:
        return None
    earlier = DeploymentRequest.objects.filter(requested_by_id=actor.user_id, idempotency_key=idempotency_key).first()
    if earlier is not None and earlier.fingerprint != order.fingerprint():
        raise IdempotencyConflict
    return earlier


def _record(
    order: DeploymentOrder,
    model: LlmModel,
    need: ModelNeed,
    plan: Plan,
    *,
    actor: Actor,
    now: datetime,
    idempotency_key: str | None,
) -> DeploymentRequest:
    request = DeploymentRequest.objects.create(
        model=model,
        replicas=order.replicas,
        context_length=need.context_length,
        concurrency=need.concurrency,
        limits=order.limits.to_json(),
        plan=plan.to_json(),
        requested_by_id=actor.user_id,
        actor=actor.name,
        idempotency_key=idempotency_key,
        fingerprint=order.fingerprint(),
    )
    instances = _record_instances(plan.ranked[0], order.replicas, now)
    Deployment.objects.bulk_create(
        Deployment(request=request, model=model, instance=instance) for instance in instances
    )
    Transition.objects.bulk_create(
        Transition(
            instance=instance,
            from_status="",
            to_status=Status.PROVISIONING,
            reason=f"deploy {model.model_id}",
            actor=actor.name,
            at=now,
        )
        for instance in instances
    )
    ids = [instance.pk for instance in instances[:_WOKEN_AT_ONCE]]
    # No functools.partial: when a robust callback fails, Django logs its __qualname__, which a partial lacks.
    transaction.on_commit(lambda: tasks.wake(tasks.PROVISION, ids), robust=True)
    return request


def _record_instances(best: RankedOffer, count: int, now: datetime) -> Sequence[Instance]:
    columns = placing.columns(best)
    return Instance.objects.bulk_create(
        Instance(
            **columns,
            api_key=worker_keys.new_engine_key(),
            status=Status.PROVISIONING,
            status_changed_at=now,
            status_reason="waiting for the orchestrator",
            next_attempt_at=now,
        )
        for _ in range(count)
    )
