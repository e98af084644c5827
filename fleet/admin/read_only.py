"""Operational rows are looked at, not edited: what changes them is a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _TabularInline = admin.TabularInline[Any, Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _TabularInline = admin.TabularInline

# Never shown; and since the admin filters by whatever column a URL names, never to be asked about either.
SECRETS = frozenset({"api_key", "agent_token_sha256", "lock_token", "bootstrap_sha256", "credentials"})


class ReadOnlyAdmin(_ModelAdmin):
    """Lists and pages without a way to add, change or delete."""

    list_per_page = 50
    show_full_result_count = False  # counts every row of tables that only grow
    command_permission: str | None = None  # what the actions of the list need; None: it has none

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_command_permission(self, request: HttpRequest) -> bool:
        return self.command_permission is not None and request.user.has_perm(self.command_permission)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup.partition("__")[0] not in SECRETS and super().lookup_allowed(lookup, value, request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Django would quietly show the list to one who posts an action that he does not have.
        if request.method == "POST" and not self.has_command_permission(request):
            raise PermissionDenied
        context = {"title": capfirst(self.opts.verbose_name_plural), **(extra_context or {})}
        try:
            return super().changelist_view(request, context)
        except ValidationError as error:
            # A chosen row's id that is no id: Django itself would let it become a 500.
            raise BadRequest("malformed id") from error


class ReadOnlyInline(_TabularInline):
    """Rows of another table on a row's page."""

    extra = 0
    can_delete = False
    classes = ("inv-plain",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
