"""What can be rented and what can be served."""

from catalog.models.catalog_sync import CatalogSync
from catalog.models.instance_type import InstanceAvailability, InstanceType
from catalog.models.llm_model import LlmModel, Precision, Routing
from catalog.models.provider import Provider, Region, Zone
from catalog.models.ssh_key import SshKey

__all__ = [
    "CatalogSync",
    "InstanceAvailability",
    "InstanceType",
    "LlmModel",
    "Precision",
    "Provider",
    "Region",
    "Routing",
    "SshKey",
    "Zone",
]
