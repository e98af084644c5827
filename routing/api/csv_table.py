"""A table as CSV, for those who want to go on with it elsewhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer

# What a spreadsheet takes for the beginning of a formula. Names are anybody's to choose.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvRenderer(BaseRenderer):
    """Of an answer with `columns` and `results`: a line for each of these. Errors stay what they are, JSON."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        if renderer_context is not None and renderer_context["response"].exception:
            return bytes(JSONRenderer().render(data))
        table = io.StringIO()
        writer = csv.writer(table)
        writer.writerow(data["columns"])
        writer.writerows([_harmless(row[column]) for column in data["columns"]] for row in data["results"])
        return table.getvalue().encode()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
