"""Accounts at providers, for the role `admin` alone (see inventiv/accounts/roles.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fleet import accounts, commands
from fleet.admin import columns
from fleet.admin.account_form import WITH_ACCOUNTS, AccountForm, input_name
from fleet.admin.read_only import SECRETS
from fleet.models import ProviderAccount
from fleet.models.attempt import MAY_BILL
from fleet.orders import CommandRefused
from fleet.providers.credentials import CREDENTIALS

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[ProviderAccount]
else:
    _ModelAdmin = admin.ModelAdmin


@admin.register(ProviderAccount)
class ProviderAccountAdmin(_ModelAdmin):
    form = AccountForm
    list_display = ("name", "provider_link", "is_active", "live_machines", "created_at", "updated_at")
    list_filter = ("provider", "is_active")
    list_select_related = ("provider",)
    search_fields = ("name", "provider__name")
    ordering = ("provider__name", "name")
    list_per_page = 50
    actions = None  # deleting in bulk would pass by the command

    # --- who may what -----------------------------------------------------------------------------------------------

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        return lookup.partition("__")[0] not in SECRETS and super().lookup_allowed(lookup, value, request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {"title": "Provider accounts", **(extra_context or {})})

    # --- columns ----------------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderAccount]:
        live = Count("attempts", filter=Q(attempts__outcome__in=sorted(MAY_BILL)))
        return super().get_queryset(request).annotate(live=live)

    @admin.display(description="provider", ordering="provider__name")
    def provider_link(self, account: ProviderAccount) -> SafeString | str:
        return columns.link(account.provider)

    @admin.display(description="live machines", ordering="live")
    def live_machines(self, account: ProviderAccount) -> int:
        return account.live  # type: ignore[attr-defined, no-any-return] # annotated above

    # --- the form ---------------------------------------------------------------------------------------------------

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        # The credentials are no columns: the form adds their inputs by itself.
        columns_of_form = ("name", "is_active") if obj else ("provider", "name", "is_active")
        form = super().get_form(request, obj, change, **{**kwargs, "fields": columns_of_form})
        if obj is None:
            _without_buttons(form.base_fields["provider"].widget)
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("provider", "live_machines", "created_at", "updated_at") if obj else ()

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        shown = WITH_ACCOUNTS if obj is None else (obj.provider.name,)
        dates = [] if obj is None else [("Use", {"fields": ("live_machines", "created_at", "updated_at")})]
        return [
            (None, {"fields": ("provider", "name", "is_active")}),
            *((f"Credentials at {provider}", _credentials(provider, is_new=obj is None)) for provider in shown),
            *dates,
        ]

    def save_model(self, request: HttpRequest, obj: ProviderAccount, form: Any, change: bool) -> None:
        obj.credentials = accounts.seal(form.opened)
        super().save_model(request, obj, form, change)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        broken = getattr(context["adminform"].form, "broken", "")
        if broken and request.method == "GET":
            self.message_user(request, f"No machine can be rented or destroyed: {broken}.", messages.ERROR)
        return super().render_change_form(request, context, *args, **kwargs)

    # --- removing ---------------------------------------------------------------------------------------------------

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        account = self.get_object(request, object_id)
        if not self.has_delete_permission(request, account):
            raise PermissionDenied
        if account is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined, no-any-return]
        return self._remove(request, account) if request.method == "POST" else self._confirmation(request, account)

    def _remove(self, request: HttpRequest, account: ProviderAccount) -> HttpResponse:
        try:
            with transaction.atomic():
                self.log_deletions(request, ProviderAccount.objects.filter(pk=account.pk))
                name = commands.remove_account(account.pk)
        except CommandRefused as refusal:
            self.message_user(request, f"{refusal.message}.", messages.ERROR)
            return redirect("admin:fleet_provideraccount_change", account.pk)
        except ProviderAccount.DoesNotExist:
            name = account.name  # somebody else was quicker
        self.message_user(request, f"Removed: {name}.", messages.SUCCESS)
        return redirect("admin:fleet_provideraccount_changelist")

    def _confirmation(self, request: HttpRequest, account: ProviderAccount) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Remove the account {account} at {account.provider}",
            "subtitle": None,
            "opts": self.opts,
            "action_name": "Remove",
            "account": account,
            "reasons": accounts.what_may_bill(account),
        }
        return TemplateResponse(request, "admin/fleet/provideraccount/remove.html", context)


def _without_buttons(widget: Any) -> None:
    """A provider is added with its driver, and is nothing to edit on the way to an account."""
    widget.can_add_related = widget.can_change_related = False
    widget.can_delete_related = widget.can_view_related = False


def _credentials(provider: str, *, is_new: bool) -> dict[str, Any]:
    inputs = [input_name(provider, credential) for credential in CREDENTIALS.get(provider, ())]
    hints = [f"Only for an account at {provider}."] if is_new else []
    if provider not in settings.ENABLED_PROVIDERS:
        hints.append("ENABLED_PROVIDERS does not name the provider: nothing new is rented there.")
    check = "{} <code>manage.py check_provider {}</code> says what works and what is missing."
    return {"fields": inputs, "description": format_html(check, " ".join(hints), provider)}
