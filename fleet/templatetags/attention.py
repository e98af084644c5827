"""`{% attention %}`: the concerns of the admin's front page."""

from __future__ import annotations

from django import template
from django.utils import timezone

from fleet.admin.attention import Concern, concerns

register = template.Library()


@register.simple_tag
def attention() -> list[Concern]:
    return list(concerns(timezone.now()))
