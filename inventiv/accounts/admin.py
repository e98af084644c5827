"""Users in the admin: for the role `admin` alone (see roles.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import transaction
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from inventiv.accounts.forms import NewUserForm, PasswordForm, UserForm
from inventiv.accounts.models import User
from inventiv.accounts.roles import Role
from routing import key_index
from routing.models import ApiKey

if TYPE_CHECKING:
    _UserAdmin = DjangoUserAdmin[User]
else:
    _UserAdmin = DjangoUserAdmin

_TONES = {Role.ADMIN: "warn", Role.OPERATOR: "good", Role.VIEWER: "quiet"}


@admin.register(User)
class UserAdmin(_UserAdmin):
    add_form = NewUserForm
    form = UserForm
    change_password_form = PasswordForm
    add_fieldsets = ((None, {"classes": ("wide",), "fields": ("email", "role", "password1", "password2")}),)
    fieldsets = (
        (None, {"fields": ("email", "password")}),
        ("Rights", {"fields": ("role", "is_active")}),
        ("Dates", {"fields": ("last_login", "created_at")}),
    )
    readonly_fields = ("last_login", "created_at")
    list_display = ("email", "role_badge", "is_active", "last_login", "created_at")
    list_filter = ("role", "is_active")
    search_fields = ("email",)
    ordering = ("email",)
    filter_horizontal = ()
    actions = None  # deleting in bulk would pass by the rule below

    @admin.display(description="role", ordering="role")
    def role_badge(self, user: User) -> SafeString:
        tone = _TONES.get(Role(user.role), "quiet")
        return format_html('<span class="inv-badge inv-{}">{}</span>', tone, user.get_role_display())

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        # Nobody deletes himself: whoever deletes an admin is an active one, so one always remains.
        return super().has_delete_permission(request, obj) and obj != request.user

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if change and "is_active" in form.changed_data:
            transaction.on_commit(lambda: _tell_the_router(obj), robust=True)


def _tell_the_router(owner: User) -> None:
    """The keys of a user who is switched off open nothing, at the router as well, and the other way round."""
    key_index.publish(*ApiKey.objects.filter(owner=owner, revoked_at__isnull=True))
