"""The form of an account: its credentials go in, are sealed, and the secret ones never come out again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from django import forms

from catalog.models import Provider
from fleet import accounts
from fleet.models import ProviderAccount
from fleet.providers.credentials import CREDENTIALS, Credential

if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[ProviderAccount]
else:
    _ModelForm = forms.ModelForm

WITH_ACCOUNTS = tuple(sorted(name for name, fields in CREDENTIALS.items() if fields))


def input_name(provider: str, credential: Credential) -> str:
    return f"{provider}_{credential.name}"


class AccountForm(_ModelForm):
    """A new account shows the credentials of every provider, and takes those of the one that is chosen.

    In an account that is there, an empty secret stays as it is.
    """

    class Meta:
        model = ProviderAccount
        fields = ("provider", "name", "is_active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_new = self.instance._state.adding
        self.known, self.broken = _known(self.instance, self.is_new)
        if "provider" in self.fields:
            self.fields["provider"].queryset = Provider.objects.filter(name__in=WITH_ACCOUNTS)  # type: ignore[attr-defined]
        for provider in WITH_ACCOUNTS if self.is_new else (self.instance.provider.name,):
            for credential in CREDENTIALS.get(provider, ()):
                self.fields[input_name(provider, credential)] = _input(credential, known=self.known)

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name == accounts.OF_THE_SETTINGS:
            raise forms.ValidationError("So is the account of the settings called: choose another name.", code="taken")
        return name

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        provider = self._provider()
        if provider is not None:
            self.opened = dict(self._credentials(provider))
        return cleaned

    def _provider(self) -> str | None:
        chosen = self.cleaned_data.get("provider") if self.is_new else self.instance.provider
        return None if chosen is None else chosen.name

    def _credentials(self, provider: str) -> Iterator[tuple[str, str | list[str]]]:
        for credential in CREDENTIALS[provider]:
            name = input_name(provider, credential)
            value = _value(credential, self.cleaned_data.get(name, "")) or self.known.get(credential.name, "")
            problem = "is required" if not value else credential.problem(value)
            problem = problem or self._would_lose_machines(credential, value)
            if problem:
                self.add_error(name, forms.ValidationError(f"{credential.label} {problem}.", code="credential"))
            yield credential.name, value

    def _would_lose_machines(self, credential: Credential, value: str | list[str]) -> str:
        """What a provider does not find in another project, it says is gone, and it would go on billing."""
        if not credential.is_identity or value == self.known.get(credential.name, value):
            return ""
        # Locked: a launch holds the account until its attempt is committed, and is seen here or waits for this change.
        account = ProviderAccount.objects.select_for_update().get(pk=self.instance.pk)
        reasons = accounts.what_may_bill(account)
        return f"can't change now: {'; '.join(reasons)}" if reasons else ""


def _known(instance: ProviderAccount, is_new: bool) -> tuple[dict[str, Any], str]:
    """What is stored, and what is wrong with it in words."""
    if is_new:
        return {}, ""
    try:
        return accounts.credentials(instance.pk), ""
    except accounts.AccountUnusable as error:
        return {}, str(error)


def _input(credential: Credential, *, known: dict[str, Any]) -> forms.CharField:
    stored = known.get(credential.name, "")
    kept = " Stored, and not shown: leave it empty to keep it." if credential.is_secret and stored else ""
    attributes = {"class": "vTextField", "autocomplete": "off", "spellcheck": "false"}
    return forms.CharField(
        label=credential.label,
        required=False,  # of the chosen provider only: see clean
        max_length=500,
        initial="" if credential.is_secret else _text(stored),
        help_text=f"Looks like {credential.looks_like}.{kept}",
        widget=forms.PasswordInput(attrs={**attributes, "autocomplete": "new-password"})
        if credential.is_secret
        else forms.TextInput(attrs=attributes),
    )


def _value(credential: Credential, text: str) -> str | list[str]:
    if not credential.is_list:
        return text.strip()
    return [part.strip() for part in text.split(",") if part.strip()]


def _text(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)
