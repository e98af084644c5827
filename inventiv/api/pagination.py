"""Pages of a list: `?page=2&page_size=100`."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request


class Pages(PageNumberPagination):
    """50 rows a page unless asked otherwise, 200 at most. What is not a number is refused, not guessed."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get("page_size")
        if asked is None:
            return self.page_size
        size = _positive(asked)
        if size is None or size > self.max_page_size:
            raise ValidationError({"page_size": f"Ask for 1 to {self.max_page_size} rows a page."})
        return size

    def get_page_number(self, request: Request, paginator: Paginator[Any]) -> int:
        asked = request.query_params.get(self.page_query_param)
        if asked is None:
            return 1
        number = _positive(asked)
        if number is None:
            raise ValidationError({"page": "A page is a number from 1."})
        return number

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        size = {"type": "integer", "minimum": 1, "maximum": self.max_page_size, "default": self.page_size}
        page = {"type": "integer", "minimum": 1, "default": 1}
        return [
            {"name": "page", "in": "query", "required": False, "schema": page, "description": "From 1."},
            {"name": "page_size", "in": "query", "required": False, "schema": size, "description": "Rows a page."},
        ]


def _positive(text: str) -> int | None:
    # Nobody has a billion pages; longer digits are not worth the arithmetic.
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        return None
    return int(text) or None
