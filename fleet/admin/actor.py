"""Who is at the admin, as the commands want to know it."""

from __future__ import annotations

from django.http import HttpRequest

from fleet.commands import Actor


def actor_of(request: HttpRequest) -> Actor:
    return Actor(name=request.user.get_username(), user_id=request.user.pk)
