from __future__ import annotations

import uuid

from rest_framework.request import Request

from fleet.commands import Actor
from routing.models import ApiKey

_LONGEST = 255  # of the columns that keep an actor's name


def actor_of(request: Request) -> Actor:
    """Who asks, as the history will name them: the user, and the API key that was used."""
    name = str(request.user)
    if isinstance(request.auth, ApiKey):
        name = f"{name} (API key {request.auth.name})"
    return Actor(name=name[:_LONGEST], user_id=uuid.UUID(str(request.user.pk)))
