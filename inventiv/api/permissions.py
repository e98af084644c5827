"""Who may call what: the role grants a permission, and an API key's scopes can only narrow it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from routing.models import ApiKey
from routing.models.api_key import Scope

if TYPE_CHECKING:
    # DRF's views import the classes that the settings name, this module among them.
    from rest_framework.views import APIView

_VERBS = {"GET": "view", "HEAD": "view", "POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}


class RolePermission(BasePermission):
    """Asks the user's role for Django's permission on the view's model, for reading too.

    A view may name another one per action: `required_permissions = {"destroy": "fleet.terminate_instance"}`;
    None asks for no more than a login. The scope follows from the permission: what only views needs `read`,
    all else needs `write`.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        method = str(request.method)
        if method not in _VERBS or not hasattr(view, method.lower()):
            return True  # not a method of this view: let it answer 405
        permission = needed_permission(view, method)
        _check_scope(request.auth, permission)
        if permission is not None and not request.user.has_perm(permission):
            raise PermissionDenied(f"Your role does not grant {permission}.", code="role")
        return True


def needed_permission(view: APIView, method: str) -> str | None:
    named: dict[str, str | None] = getattr(view, "required_permissions", {})
    action = getattr(view, "action", None) or method.lower()
    if action in named:
        return named[action]
    queryset = getattr(view, "queryset", None)
    if queryset is None:
        raise ImproperlyConfigured(f"{type(view).__name__} does not say what {action} needs")
    options = queryset.model._meta
    return f"{options.app_label}.{_VERBS[method]}_{options.model_name}"


def _check_scope(auth: object, permission: str | None) -> None:
    if not isinstance(auth, ApiKey):
        return
    reads = permission is None or permission.partition(".")[2].startswith("view_")
    scope = Scope.READ if reads else Scope.WRITE
    if scope not in auth.scopes:
        raise PermissionDenied(f"This API key lacks the scope {scope.value!r}.", code="scope")
