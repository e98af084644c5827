"""API keys and what was called with them, as the product plane sees it."""

from routing.models.api_key import ApiKey
from routing.models.usage import RejectedUsage, UsageHour, UsageRecord

__all__ = ["ApiKey", "RejectedUsage", "UsageHour", "UsageRecord"]
