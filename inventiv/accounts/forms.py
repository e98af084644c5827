"""Forms with which an admin makes and changes users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.forms import AdminPasswordChangeForm, BaseUserCreationForm, UserChangeForm
from django.db import transaction

from inventiv.accounts.models import User
from inventiv.accounts.roles import Role

if TYPE_CHECKING:
    _CreationForm = BaseUserCreationForm[User]
    _ChangeForm = UserChangeForm[User]
    _PasswordForm = AdminPasswordChangeForm[User]
else:
    _CreationForm = BaseUserCreationForm
    _ChangeForm = UserChangeForm
    _PasswordForm = AdminPasswordChangeForm


_LAST_ADMIN = forms.ValidationError(
    "This is the last active admin: make another user an active admin first.", code="last_admin"
)


class _EmailIsFree:
    """An address is one user's, in whatever case it is written."""

    instance: User
    cleaned_data: dict[str, Any]

    def clean_email(self) -> str:
        email = User.objects.normalize_email(self.cleaned_data["email"])
        if User.objects.filter(email__iexact=email).exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError("There is a user with this e-mail address already.", code="unique")
        return email


class NewUserForm(_EmailIsFree, _CreationForm):
    class Meta:
        model = User
        fields = ("email", "role")


class UserForm(_EmailIsFree, _ChangeForm):
    class Meta:
        model = User
        fields = ("email", "password", "role", "is_active")

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        stays = self.cleaned_data.get("role") == Role.ADMIN and self.cleaned_data.get("is_active")
        if not stays and _is_last_admin(self.instance):
            self.add_error(None, _LAST_ADMIN)
        return cleaned


class PasswordForm(_PasswordForm):
    """Sets a password, or takes it away: then only the user's API keys open anything."""

    user: User

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if not self.cleaned_data.get("set_usable_password", True) and _is_last_admin(self.user):
            self.add_error("usable_password", _LAST_ADMIN)
        return cleaned


def _is_last_admin(user: User) -> bool:
    with transaction.atomic():
        # Locked: two admins who step down at the same moment must not both find the other one.
        admins = User.objects.select_for_update().filter(role=Role.ADMIN, is_active=True)
        return {admin.pk for admin in admins} == {user.pk}
