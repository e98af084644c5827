from routing.admin.api_keys import ApiKeyAdmin

__all__ = ["ApiKeyAdmin"]
