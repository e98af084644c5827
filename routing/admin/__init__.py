from routing.admin.api_keys import ApiKeyAdmin
from routing.admin.usage import RejectedUsageAdmin, UsageHourAdmin, UsageRecordAdmin

__all__ = ["ApiKeyAdmin", "RejectedUsageAdmin", "UsageHourAdmin", "UsageRecordAdmin"]
