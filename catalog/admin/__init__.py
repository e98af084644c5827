"""The catalogue in the admin. Importing this registers it."""

from catalog.admin.instance_types import InstanceTypeAdmin
from catalog.admin.llm_models import LlmModelAdmin
from catalog.admin.places import ProviderAdmin, RegionAdmin, ZoneAdmin
from catalog.admin.ssh_keys import SshKeyAdmin

__all__ = ["InstanceTypeAdmin", "LlmModelAdmin", "ProviderAdmin", "RegionAdmin", "SshKeyAdmin", "ZoneAdmin"]
