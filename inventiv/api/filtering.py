"""Filters and order of a list. A misspelt parameter is refused: ignoring it would answer another question."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.core.validators import EMPTY_VALUES
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.filters import OrderingFilter
from rest_framework.request import Request

if TYPE_CHECKING:
    # DRF's views import the classes that the settings name, this module among them.
    from rest_framework.views import APIView

_OF_EVERY_LIST = frozenset({"page", "page_size", "ordering"})


class StrictFilters(DjangoFilterBackend):
    """The view's `filterset_class`, and nothing that is not in it. Only a list is filtered."""

    def filter_queryset(self, request: Any, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        if getattr(view, "action", None) != "list":
            return queryset
        filterset = self.get_filterset(request, queryset, view)
        _refuse_unknown(request, set(filterset.filters) if filterset else set())
        if filterset is None:
            return queryset
        if not filterset.is_valid():
            raise ValidationError(filterset.errors)
        _refuse_empty(request, filterset.form.cleaned_data)
        filtered: QuerySet[Any] = filterset.qs
        return filtered


def _refuse_unknown(request: Request, filters: set[str]) -> None:
    known = _OF_EVERY_LIST | filters
    words = f"There is no such parameter here; there are {', '.join(sorted(known))}."
    if unknown := sorted(set(request.query_params) - known):
        raise ValidationError({name: [words] for name in unknown}, code="unknown")


def _refuse_empty(request: Request, understood: Mapping[str, Any]) -> None:
    # Django takes `?is_active=maybe` for no answer, which would list everything.
    empty = [name for name in request.query_params if name in understood and understood[name] in EMPTY_VALUES]
    if empty:
        raise ValidationError({name: ["This value says nothing."] for name in empty}, code="empty")


class StableOrder(OrderingFilter):
    """`?ordering=-created_at`, made total by the primary key, so that no row falls between two pages."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: APIView) -> QuerySet[Any]:
        if getattr(view, "action", None) != "list":
            return queryset
        asked = self.get_ordering(request, queryset, view)
        order = [*(asked or queryset.query.order_by or queryset.model._meta.ordering)]
        return queryset.order_by(*order, "pk")

    def remove_invalid_fields(
        self, queryset: QuerySet[Any], fields: Iterable[str], view: APIView, request: Request
    ) -> list[str]:
        known = [name for name, _ in self.get_valid_fields(queryset, view, {"request": request})]
        asked = list(fields)
        if any(field.removeprefix("-") not in known for field in asked):
            raise ValidationError({"ordering": f"Order by {', '.join(known)}; a minus sign in front reverses."})
        return asked

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        known: Sequence[str] | None = getattr(view, "ordering_fields", None)
        if not known:
            return []
        choices = [f"{sign}{name}" for name in known for sign in ("", "-")]
        return [
            {
                "name": "ordering",
                "in": "query",
                "required": False,
                "description": "One field, or several with commas between.",
                "schema": {"type": "array", "items": {"type": "string", "enum": choices}},
                "style": "form",
                "explode": False,
            }
        ]
