"""What we rent: instances, what was asked for, every try at a machine, every move, and what all of it costs."""

from fleet.models.account import ProviderAccount
from fleet.models.attempt import Attempt, Outcome
from fleet.models.clock import ClockTick
from fleet.models.deployment import Deployment, DeploymentRequest
from fleet.models.instance import Instance
from fleet.models.leak import Leak
from fleet.models.lease import LeaseLost
from fleet.models.refusal import HeartbeatRefusal, QuotaRefusal
from fleet.models.rental import Rental
from fleet.models.sweep import Sweep
from fleet.models.transition import Transition

__all__ = [
    "Attempt",
    "ClockTick",
    "Deployment",
    "DeploymentRequest",
    "HeartbeatRefusal",
    "Instance",
    "Leak",
    "LeaseLost",
    "Outcome",
    "ProviderAccount",
    "QuotaRefusal",
    "Rental",
    "Sweep",
    "Transition",
]
