"""What we rent: instances, what was asked for, every try at a machine, every move."""

from fleet.models.attempt import Attempt, Outcome
from fleet.models.clock import ClockTick
from fleet.models.deployment import Deployment, DeploymentRequest
from fleet.models.instance import Instance, LeaseLost
from fleet.models.transition import Transition

__all__ = [
    "Attempt",
    "ClockTick",
    "Deployment",
    "DeploymentRequest",
    "Instance",
    "LeaseLost",
    "Outcome",
    "Transition",
]
