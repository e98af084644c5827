"""Deploying again what has failed or ended: a page that says what it asks for, then the command of the API."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone

from fleet import commands
from fleet.admin import columns
from fleet.admin.actor import actor_of
from fleet.admin.read_only import ReadOnlyAdmin
from fleet.models import Deployment
from fleet.orders import CommandRefused

_NAME = "Retry (deploy again)"


class RetryForm(forms.Form):
    # The same page posted twice, by a double click or a reload, rents nothing twice.
    idempotency_key = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class RetryActions(ReadOnlyAdmin):
    """The action of the deployments' list; the button of a deployment's page posts it too."""

    actions = ("retry",)
    command_permission = "fleet.add_deployment"

    @admin.action(description=_NAME, permissions=["command"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> HttpResponse:
        chosen = list(queryset.select_related("model", "instance", "request"))
        form = RetryForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            return self._confirmation(request, chosen, RetryForm())
        for deployment in chosen:
            self._retry_one(request, deployment, key=form.cleaned_data["idempotency_key"])
        return redirect("admin:fleet_deployment_changelist")

    def _retry_one(self, request: HttpRequest, deployment: Deployment, *, key: uuid.UUID) -> None:
        try:
            asked = commands.retry_deployment(
                deployment.pk,
                actor=actor_of(request),
                now=timezone.now(),
                idempotency_key=f"admin:{key}:{deployment.pk}",
            )
        except CommandRefused as refusal:
            text = f"{deployment.model} ({columns.short(deployment)}) can't be deployed again: {refusal.message}."
            self.message_user(request, text, messages.ERROR)
            return
        self.log_change(request, deployment, f"Deployed again by request {asked.pk}.")
        text = f"Deploying {deployment.model} again (request {columns.short(asked)})."
        self.message_user(request, text, messages.SUCCESS)

    def _confirmation(self, request: HttpRequest, chosen: Sequence[Deployment], form: RetryForm) -> HttpResponse:
        paid = [(deployment.instance.price_per_hour, deployment.instance.currency) for deployment in chosen]
        context = {
            **self.admin_site.each_context(request),
            "title": f"Deploy again: {len(chosen)} deployment{'' if len(chosen) == 1 else 's'}",
            "subtitle": None,
            "opts": self.opts,
            "action_name": _NAME,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "cost": columns.per_hour(paid),
            "rows": [_row(deployment) for deployment in chosen],
            "form": form,
        }
        return TemplateResponse(request, "admin/fleet/deployment/retry.html", context)


def _row(deployment: Deployment) -> dict[str, object]:
    return {
        "pk": deployment.pk,
        "link": columns.link(deployment, columns.short(deployment)),
        "model": deployment.model,
        "status": columns.status_badge(deployment.instance.status),
        "context_length": deployment.request.context_length,
        "concurrency": deployment.request.concurrency,
    }
