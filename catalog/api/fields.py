"""What the catalogue's serializers are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Model
from rest_framework import serializers


class ByName(serializers.SlugRelatedField[Any]):
    """Another row by its name, in both directions: {"provider": "scaleway"}."""

    def __init__(self, **options: Any) -> None:
        super().__init__(slug_field="name", **options)

    def to_internal_value(self, data: Any) -> Any:
        # What can't be a name (a number, a NUL) is refused here: the database would stumble over it.
        return super().to_internal_value(serializers.CharField(max_length=50).run_validation(data))


class RowSerializer(serializers.ModelSerializer[Any]):
    """A row of the catalogue. A field that it does not have is refused, and some never change once written."""

    fixed: Sequence[str] = ()

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            words = f"There is no such field here; there are {', '.join(self.fields)}."
            raise serializers.ValidationError({name: [words] for name in unknown}, code="unknown")
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        for name in self.fixed:
            source = self.fields[name].source
            if isinstance(self.instance, Model) and source in attrs and attrs[source] != getattr(self.instance, source):
                raise serializers.ValidationError({name: ["This can't be changed: create another one."]}, code="fixed")
        return attrs
