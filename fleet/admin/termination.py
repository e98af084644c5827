"""Ending instances from the admin: a page that says what ends and what it costs, then the command of the API."""

from __future__ import annotations

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
from fleet.models import Instance
from fleet.states import FINAL

DRAIN = "Drain and terminate"
NOW = "Terminate now"


class TerminationForm(forms.Form):
    reason = forms.CharField(
        max_length=200,
        initial="asked for in the admin",
        help_text="Kept in the instance's history.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )


class TerminationActions(ReadOnlyAdmin):
    """The actions of the instances' list; the buttons of an instance's page post them too."""

    actions = ("drain_and_terminate", "terminate_now")
    command_permission = "fleet.terminate_instance"

    @admin.action(description=DRAIN, permissions=["command"])
    def drain_and_terminate(self, request: HttpRequest, queryset: QuerySet[Instance]) -> HttpResponse:
        return self._confirm_or_end(request, queryset, drain=True)

    @admin.action(description=NOW, permissions=["command"])
    def terminate_now(self, request: HttpRequest, queryset: QuerySet[Instance]) -> HttpResponse:
        return self._confirm_or_end(request, queryset, drain=False)

    def _confirm_or_end(self, request: HttpRequest, queryset: QuerySet[Instance], *, drain: bool) -> HttpResponse:
        chosen = list(queryset.select_related("provider", "zone", "instance_type", "deployment__model"))
        ending = [instance for instance in chosen if instance.status not in FINAL]
        if not ending:
            self.message_user(request, "Nothing to end: all of them are terminated already.", messages.WARNING)
            return redirect("admin:fleet_instance_changelist")
        form = TerminationForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            return self._confirmation(request, ending, form, drain=drain, over=len(chosen) - len(ending))
        self._end(request, ending, reason=form.cleaned_data["reason"], drain=drain)
        if len(ending) == 1:
            return redirect("admin:fleet_instance_change", ending[0].pk)
        return redirect("admin:fleet_instance_changelist")

    def _end(self, request: HttpRequest, instances: Sequence[Instance], *, reason: str, drain: bool) -> None:
        actor, now = actor_of(request), timezone.now()
        for instance in instances:
            commands.request_termination(instance.pk, actor=actor, reason=reason, now=now, drain=drain)
            self.log_change(request, instance, f"{DRAIN if drain else NOW}: {reason}")
        count = len(instances)
        what = "1 instance is" if count == 1 else f"{count} instances are"
        how = "being drained, then terminated" if drain else "being terminated"
        self.message_user(request, f"{what} {how}.", messages.SUCCESS)

    def _confirmation(
        self, request: HttpRequest, ending: Sequence[Instance], form: TerminationForm, *, drain: bool, over: int
    ) -> HttpResponse:
        count = len(ending)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{DRAIN if drain else NOW}: {count} instance{'' if count == 1 else 's'}",
            "subtitle": None,
            "opts": self.opts,
            "action": "drain_and_terminate" if drain else "terminate_now",
            "action_name": DRAIN if drain else NOW,
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "drain": drain,
            "cost": columns.per_hour((instance.price_per_hour, instance.currency) for instance in ending),
            "rows": [_row(instance) for instance in ending],
            "over": over,
            "form": form,
        }
        return TemplateResponse(request, "admin/fleet/instance/terminate.html", context)


def _row(instance: Instance) -> dict[str, object]:
    deployment = getattr(instance, "deployment", None)
    return {
        "pk": instance.pk,
        "link": columns.link(instance, columns.short(instance)),
        "status": columns.status_badge(instance.status),
        "model": deployment.model if deployment else columns.NOTHING,
        "where": f"{instance.instance_type} in {instance.zone} ({instance.provider})",
        "price": columns.price(instance.price_per_hour, instance.currency),
    }
