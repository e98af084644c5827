"""API keys: made and shown once, then limited and revoked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME, AdminForm
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from routing import key_index
from routing.admin.forms import ChangedKeyForm, NewKeyForm
from routing.admin.usage import month_so_far
from routing.models import ApiKey
from routing.models.api_key import LIMITS

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[ApiKey]
else:
    _ModelAdmin = admin.ModelAdmin


class _State(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("usable", "Usable"), ("revoked", "Revoked"), ("expired", "Expired")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        now = timezone.now()
        match self.value():
            case "usable":
                return ApiKey.objects.usable(now).filter(pk__in=queryset.values("pk"))
            case "revoked":
                return queryset.filter(revoked_at__isnull=False)
            case "expired":
                return queryset.filter(revoked_at__isnull=True, expires_at__lte=now)
        return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(_ModelAdmin):
    form = ChangedKeyForm
    list_display = ("name", "owner", "shown_prefix", "scope_list", "state", "limits", "last_used_at", "expires_at")
    list_filter = (_State,)
    list_select_related = ("owner",)
    list_per_page = 50
    search_fields = ("name", "prefix", "owner__email")
    ordering = ("-created_at",)
    actions = ("revoke",)
    readonly_fields = (
        "owner",
        "shown_prefix",
        "scope_list",
        "state",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
        "month",
    )
    fieldsets = (
        (None, {"fields": ("name", *readonly_fields[:-1])}),
        ("This month (UTC)", {"fields": ("month",)}),
        ("Limits", {"fields": LIMITS, "description": "The routers keep to them at once. Empty: no limit."}),
    )

    # --- who may what -----------------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        keys = super().get_queryset(request)
        return keys if _manages_users(request) else keys.filter(owner=request.user.pk)

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or obj.revoked_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False  # a key is revoked, and its row stays: who had it, and until when

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_apikey")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # The admin filters by whatever column a URL names; nobody is to feel his way along a hash.
        return not lookup.startswith("sha256") and super().lookup_allowed(lookup, value, request)

    # --- columns ----------------------------------------------------------------------------------------------------

    @admin.display(description="prefix", ordering="prefix")
    def shown_prefix(self, key: ApiKey) -> SafeString:
        return format_html("<code>{}…</code>", key.prefix)

    @admin.display(description="scopes")
    def scope_list(self, key: ApiKey) -> str:
        return ", ".join(key.scopes)

    @admin.display(description="limits")
    def limits(self, key: ApiKey) -> SafeString | str:
        words = list(_limits(key))
        return format_html_join(mark_safe("<br>"), "{}", ((word,) for word in words)) if words else "none"

    @admin.display(description="used so far")
    def month(self, key: ApiKey) -> SafeString:
        url = reverse("admin:routing_usagehour_changelist")
        return format_html('<a href="{}?key_id__exact={}">{}</a>', url, key.pk, month_so_far(key, timezone.now()))

    @admin.display(description="state")
    def state(self, key: ApiKey) -> SafeString:
        tone, word = _state(key)
        return format_html('<span class="inv-badge inv-{}">{}</span>', tone, word)

    # --- making one -------------------------------------------------------------------------------------------------

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        data = request.POST if request.method == "POST" else None
        form = NewKeyForm(data, user=request.user, may_choose_owner=_manages_users(request))
        if form.is_valid():
            return self._issue(request, form)
        context = {
            **self.admin_site.each_context(request),
            "title": "Make an API key",
            "subtitle": None,
            "adminform": _admin_form(form, self),
            "errors": form.errors,
            "media": self.media + form.media,
            "inline_admin_formsets": [],
            "is_popup": False,
            "to_field": None,
            "show_save_and_continue": False,
            "show_save_and_add_another": False,
        }
        return self.render_change_form(request, context, add=True)

    def _issue(self, request: HttpRequest, form: NewKeyForm) -> HttpResponse:
        made = form.cleaned_data
        owner = made.get("owner", request.user)
        with transaction.atomic():
            row, key = ApiKey.issue(
                owner_id=owner.pk,
                name=made["name"],
                scopes=made["scopes"],
                expires_at=made["expires_at"],
                **{limit: made[limit] for limit in LIMITS},
            )
            self.log_addition(request, row, "Made in the admin.")
            transaction.on_commit(lambda: key_index.publish(row), robust=True)
        context = {
            **self.admin_site.each_context(request),
            "title": "The new API key",
            "subtitle": None,
            "opts": self.opts,
            "row": row,
            "key": key,
        }
        # In this answer and nowhere else: no session, no cookie, no redirect.
        return TemplateResponse(request, "admin/routing/apikey/issued.html", context)

    # --- limiting it ------------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        # No other column: the key may have been revoked since the page was opened.
        obj.save(update_fields=form.changed_data)
        transaction.on_commit(lambda: key_index.publish(obj), robust=True)

    # --- revoking ---------------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Django would quietly show the list to one who posts an action that he does not have.
        if request.method == "POST" and not self.has_revoke_permission(request):
            raise PermissionDenied
        context = {"title": "API keys", **(extra_context or {})}
        try:
            return super().changelist_view(request, context)
        except ValidationError as error:
            # A chosen row's id that is no id: Django itself would let it become a 500.
            raise BadRequest("malformed id") from error

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"may_revoke": self.has_revoke_permission(request), **(extra_context or {})}
        return super().change_view(request, object_id, form_url, context)

    @admin.action(description="Revoke", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse:
        keys = list(queryset.filter(revoked_at__isnull=True).select_related("owner"))
        if not keys:
            self.message_user(request, "Nothing to revoke: all of them are revoked already.", messages.WARNING)
        elif "confirmed" not in request.POST:
            return self._confirmation(request, keys)
        for key in keys:
            self._revoke_one(request, key)
        return redirect("admin:routing_apikey_changelist")

    def _revoke_one(self, request: HttpRequest, key: ApiKey) -> None:
        key.revoked_at = timezone.now()
        with transaction.atomic():
            key.save(update_fields=["revoked_at"])
            self.log_change(request, key, "Revoked.")
            transaction.on_commit(lambda: key_index.publish(key), robust=True)
        self.message_user(request, f"Revoked: {key}.", messages.SUCCESS)

    def _confirmation(self, request: HttpRequest, keys: list[ApiKey]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Revoke {len(keys)} API key{'' if len(keys) == 1 else 's'}",
            "subtitle": None,
            "opts": self.opts,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "keys": keys,
        }
        return TemplateResponse(request, "admin/routing/apikey/revoke.html", context)


def _admin_form(form: Any, model_admin: ApiKeyAdmin) -> AdminForm:
    return AdminForm(form, [(None, {"fields": list(form.fields)})], {}, (), model_admin=model_admin)


def _manages_users(request: HttpRequest) -> bool:
    """Who may see the users may see, make and revoke their keys; everybody else only his own."""
    return request.user.has_perm("accounts.view_user")


def _limits(key: ApiKey) -> Iterator[str]:
    if key.allowed_models:
        yield f"{len(key.allowed_models)} model{'' if len(key.allowed_models) == 1 else 's'}"
    for value, unit in (
        (key.requests_per_minute, "requests a minute"),
        (key.tokens_per_minute, "tokens a minute"),
        (key.concurrency, "at once"),
        (key.monthly_token_budget, "tokens a month"),
        (key.monthly_budget, "a month in money"),
    ):
        if value is not None:
            yield f"{value:,} {unit}"


def _state(key: ApiKey) -> tuple[str, str]:
    if key.revoked_at is not None:
        return "quiet", "Revoked"
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return "warn", "Expired"
    if not key.owner.is_active:
        return "warn", "Owner inactive"
    return "good", "Usable"
