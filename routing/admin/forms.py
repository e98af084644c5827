"""The forms with which an API key is made, and limited."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.forms.models import fields_for_model
from django.utils import timezone

from routing.models import ApiKey
from routing.models.api_key import LIMITS, Scope

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[ApiKey]
else:
    _ModelForm = forms.ModelForm


class _Limits(forms.Form):
    def clean_allowed_models(self) -> list[str]:
        return sorted(set(self.cleaned_data["allowed_models"]))


class ChangedKeyForm(_Limits, _ModelForm):
    """Never the key itself, nor whose it is and what it may do."""

    class Meta:
        model = ApiKey
        fields = ("name", *LIMITS)


class NewKeyForm(_Limits):
    name = forms.CharField(max_length=100, help_text="What uses it, so that you know later what to revoke.")
    scopes = forms.MultipleChoiceField(
        choices=Scope.choices, widget=forms.CheckboxSelectMultiple, initial=[Scope.INFERENCE]
    )
    expires_at = forms.SplitDateTimeField(
        required=False, widget=AdminSplitDateTime, help_text="UTC. Empty: it is good until it is revoked."
    )
    owner = forms.ModelChoiceField(
        get_user_model().objects.none(), help_text="The key may do what its owner may do.", empty_label=None
    )

    def __init__(
        self, *args: Any, user: AbstractBaseUser | AnonymousUser, may_choose_owner: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields.update(fields_for_model(ApiKey, LIMITS))
        if not may_choose_owner:
            del self.fields["owner"]
            return
        owner = self.fields["owner"]
        owner.initial = user.pk
        owner.queryset = get_user_model().objects.filter(is_active=True)  # type: ignore[attr-defined]

    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("This instant has passed.", code="past")
        return expires_at
