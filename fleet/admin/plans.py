"""What a plan comes to for an order, in a sentence and as the catalogue's table."""

from __future__ import annotations

from django.utils.safestring import SafeString

from catalog.admin import plans
from catalog.placement import Plan
from fleet.admin import columns


def plan_table(plan: Plan, *, replicas: int) -> SafeString:
    return plans.plan_table(plan, headline=summary(plan, replicas=replicas))


def summary(plan: Plan, *, replicas: int) -> str:
    """The best offer and what it costs; empty where none fits."""
    if not plan.ranked:
        return ""
    best = plan.ranked[0].offer
    cost = columns.per_hour([(best.price_per_hour * replicas, best.currency)])
    machines = best.instance_type if replicas == 1 else f"{replicas} x {best.instance_type}"
    kind = f"{best.provider}, spot" if best.spot else best.provider
    return f"{machines} in {best.zone} ({kind}) for {cost}"
