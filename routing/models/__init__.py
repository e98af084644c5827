"""API keys, as the product plane sees them."""

from routing.models.api_key import ApiKey

__all__ = ["ApiKey"]
