"""What was called, by whom, and what it took."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from routing.api.csv_table import CsvRenderer
from routing.api.strict import StrictSerializer
from routing.models import ApiKey, UsageHour
from routing.usage import report
from routing.usage.budgets import beginning_of_month
from routing.usage.report import Totals

_MOST_CSV_ROWS = 100_000
_COLUMNS = {**{group: (group,) for group in report.GROUPS}, "key": ("key_id", "key")}


class GroupsField(serializers.CharField):
    """Names with commas between them, each once."""

    def to_internal_value(self, data: Any) -> Any:
        groups = [name.strip() for name in super().to_internal_value(data).split(",")]
        if not set(groups) <= set(report.GROUPS) or len(set(groups)) < len(groups):
            raise serializers.ValidationError(f"Group by {', '.join(report.GROUPS)}; a comma between two.")
        return groups


class UsageQuerySerializer(StrictSerializer):
    key = serializers.UUIDField(required=False, help_text="A key's id")
    model = serializers.CharField(required=False, max_length=255, help_text="A model's id")
    operation = serializers.CharField(required=False, max_length=40, help_text='"chat", "embeddings", ...')
    group_by = GroupsField(
        required=False,
        help_text="key, model, operation, hour, day; a comma between two. Unless given, model",
    )
    page = serializers.IntegerField(required=False, min_value=1)
    page_size = serializers.IntegerField(required=False, min_value=1, max_value=200)
    format = serializers.ChoiceField(["json", "csv"], required=False, help_text="csv: everything, on one page")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        words = "Inclusive, in whole hours; unless given, the beginning of this month (UTC)"
        period = {
            "from": serializers.DateTimeField(required=False, help_text=words),
            "to": serializers.DateTimeField(required=False, help_text="Exclusive; unless given, now"),
        }
        return {**period, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        now = timezone.now()
        since, until = attrs.get("from", beginning_of_month(now)), attrs.get("to", now)
        if since >= until:
            raise serializers.ValidationError({"to": ["This is not after `from`."]}, code="order")
        if attrs.get("format") == "csv" and (paged := {"page", "page_size"} & set(attrs)):
            raise serializers.ValidationError({name: ["A CSV has no pages."] for name in paged}, code="pages")
        return {"group_by": ["model"], **attrs, "from": report.first_hour(since), "to": until}


class UsageTotalsSerializer(serializers.Serializer[Any]):
    requests = serializers.IntegerField()
    errors = serializers.IntegerField(  # type: ignore[assignment] # of the class; a field is no attribute of it
        help_text="Requests with a status of 400 or more; 499: left by the client"
    )
    estimated = serializers.IntegerField(help_text="Requests of which the tokens are the router's estimate")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cached_tokens = serializers.IntegerField(help_text="Of the input: found in the engine's prefix cache")
    cost = serializers.DecimalField(max_digits=24, decimal_places=6, help_text="In the currency of the prices")
    mean_duration_ms = serializers.IntegerField(allow_null=True, help_text="Null: there was no request")
    mean_first_token_ms = serializers.IntegerField(allow_null=True, help_text="Null: no answer began")


class UsageRowSerializer(UsageTotalsSerializer):
    """Has those of the first fields that were grouped by."""

    key_id = serializers.UUIDField(required=False)
    key = serializers.CharField(required=False, allow_null=True, help_text="The key's name; null: it is gone")
    model = serializers.CharField(required=False)
    operation = serializers.CharField(required=False)
    hour = serializers.DateTimeField(required=False, help_text="Its beginning (UTC)")
    day = serializers.DateTimeField(required=False, help_text="Its beginning (UTC)")


class UsageSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField(help_text="Groups in all")
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    totals = UsageTotalsSerializer()
    results = UsageRowSerializer(many=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        period = {"from": serializers.DateTimeField(), "to": serializers.DateTimeField()}
        return {**period, **super().get_fields()}


class UsageView(GenericAPIView[UsageHour]):
    queryset = UsageHour.objects.all()
    serializer_class = UsageSerializer
    renderer_classes = [JSONRenderer, CsvRenderer]

    @extend_schema(
        parameters=[UsageQuerySerializer],
        responses={(200, "application/json"): UsageSerializer, (200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> Response:
        """What was called in a time, as sums by group. One sees what one's own keys did; an admin sees all."""
        asked = UsageQuerySerializer(data=self._query())
        asked.is_valid(raise_exception=True)
        query = asked.validated_data
        groups = report.grouped(self._hours(query), query["group_by"])
        if request.accepted_renderer.format == CsvRenderer.format:
            return _table(groups, query["group_by"])
        page = self.paginate_queryset(groups)
        answer = self.get_paginated_response(list(_rows(page or (), query["group_by"]))).data
        period = {"from": query["from"], "to": query["to"]}
        sums = UsageTotalsSerializer(report.totals(self._hours(query))).data
        return Response(period | {**answer, "totals": sums})

    def _query(self) -> dict[str, Any]:
        """As it was asked, whether by a parameter or by the header Accept."""
        asked: dict[str, Any] = self.request.query_params.dict()
        return {**asked, "format": self.request.accepted_renderer.format}

    def _hours(self, query: Mapping[str, Any]) -> QuerySet[UsageHour]:
        columns = {"key": "key_id", "model": "model_id", "operation": "operation"}
        chosen = {column: query[name] for name, column in columns.items() if name in query}
        period = {"hour__gte": query["from"], "hour__lt": query["to"]}
        return report.visible(self.get_queryset(), self.request.user).filter(**period, **chosen)


def _table(groups: QuerySet[UsageHour, Any], names: Sequence[str]) -> Response:
    found = list(groups[: _MOST_CSV_ROWS + 1])
    if len(found) > _MOST_CSV_ROWS:
        words = f"These are more than {_MOST_CSV_ROWS:,} rows: ask for less time, or for fewer groups."
        raise serializers.ValidationError({"group_by": [words]}, code="too_many")
    headers = {"Content-Disposition": 'attachment; filename="usage.csv"'}
    columns = [*(column for name in names for column in _COLUMNS[name]), *UsageTotalsSerializer().fields]
    return Response({"columns": columns, "results": list(_rows(found, names))}, headers=headers)


def _rows(groups: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    keys = _names_of_keys(row["by_key"] for row in groups) if "key" in names else {}
    for row in groups:
        yield {**_group(row, names, keys), **UsageTotalsSerializer(asdict(Totals.of(row))).data}


def _group(row: Mapping[str, Any], names: Sequence[str], keys: Mapping[Any, str]) -> dict[str, Any]:
    group: dict[str, Any] = {}
    for name in names:
        value = row[f"by_{name}"]
        if name == "key":
            group |= {"key_id": str(value), "key": keys.get(value)}
        else:
            group[name] = _instant(value) if isinstance(value, datetime) else value
    return group


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _names_of_keys(ids: Iterable[Any]) -> dict[Any, str]:
    return dict(ApiKey.objects.filter(pk__in=set(ids)).values_list("pk", "name"))
