"""The fleet in the admin: operational rows are read-only, the buttons call the commands that the API calls."""

from fleet.admin.accounts import ProviderAccountAdmin
from fleet.admin.catalog_syncs import CatalogSyncAdmin
from fleet.admin.deployments import DeploymentAdmin, DeploymentRequestAdmin
from fleet.admin.history import AttemptAdmin, ClockTickAdmin, TransitionAdmin
from fleet.admin.instances import InstanceAdmin
from fleet.admin.money import LeakAdmin, RentalAdmin, SweepAdmin

__all__ = [
    "AttemptAdmin",
    "CatalogSyncAdmin",
    "ClockTickAdmin",
    "DeploymentAdmin",
    "DeploymentRequestAdmin",
    "InstanceAdmin",
    "LeakAdmin",
    "ProviderAccountAdmin",
    "RentalAdmin",
    "SweepAdmin",
    "TransitionAdmin",
]
