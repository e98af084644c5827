from __future__ import annotations

from typing import Any

from django.urls import reverse
from rest_framework.request import Request


def link(request: Request, name: str, *args: Any, query: dict[str, Any] | None = None) -> str:
    """The address of another resource, under the prefix by which the caller reached this one."""
    match = request.resolver_match
    namespace = match.namespace if match else ""
    path = reverse(f"{namespace}:{name}" if namespace else name, args=args, query=query)
    return request.build_absolute_uri(path)
