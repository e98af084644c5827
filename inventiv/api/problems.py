"""Every error of the API as a problem (RFC 9457), with the fields that are at fault named in `errors`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.views import set_rollback

logger = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
_PAGES_FOR_PEOPLE = "/admin/"


class Conflict(exceptions.APIException):
    status_code = 409
    default_code = "conflict"
    default_detail = "This conflicts with what is there already."


class InUse(Conflict):
    default_code = "in_use"
    default_detail = "Other rows still refer to this one."


class Unavailable(exceptions.APIException):
    status_code = 503
    default_code = "unavailable"
    default_detail = "The database can't be reached. Try again."
    wait = 2


class Unexpected(exceptions.APIException):
    status_code = 500
    default_code = "internal"
    default_detail = "Something went wrong on our side; it has been logged."


# The first match counts: a ProtectedError is an IntegrityError.
_COUNTERPARTS: tuple[tuple[tuple[type[Exception], ...], type[exceptions.APIException]], ...] = (
    ((Http404,), exceptions.NotFound),
    ((DjangoPermissionDenied,), exceptions.PermissionDenied),
    ((ProtectedError, RestrictedError), InUse),
    ((IntegrityError,), Conflict),
    ((OperationalError, InterfaceError), Unavailable),
)


# --- inside the API's views -------------------------------------------------------------------------------------


def problem_response(raised: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's EXCEPTION_HANDLER. An APIException may carry `extensions`: members that are added to the problem."""
    set_rollback()
    error = _as_api_exception(raised)
    if error.status_code >= 500:
        logger.error("%s on %s", type(raised).__name__, context["request"].path, exc_info=raised)
    body = _body(
        context["request"].path,
        error.status_code,
        _code(error),
        _sentence(error),
        errors=list(_flat(error.get_full_details())) if isinstance(error.detail, dict | list) else [],
        **getattr(error, "extensions", {}),
    )
    return Response(body, status=error.status_code, headers=_headers(error), content_type=CONTENT_TYPE)


def _as_api_exception(raised: Exception) -> exceptions.APIException:
    if isinstance(raised, exceptions.APIException):
        return raised
    if isinstance(raised, DjangoValidationError):
        return exceptions.ValidationError(as_serializer_error(raised))
    for kinds, error in _COUNTERPARTS:
        if isinstance(raised, kinds):
            return error()
    return Unexpected()


def _code(error: exceptions.APIException) -> str:
    codes = error.get_codes()
    return codes if isinstance(codes, str) else error.default_code


def _sentence(error: exceptions.APIException) -> str:
    if isinstance(error.detail, str):
        return str(error.detail)
    faults = list(_flat(error.get_full_details()))
    if len(faults) == 1:
        only = faults[0]
        return f"{only['field']}: {only['message']}" if only["field"] else only["message"]
    return "These are refused: " + ", ".join(dict.fromkeys(fault["field"] for fault in faults if fault["field"]))


def _flat(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested {"limits": {"zones": [{message, code}]}} as {field: "limits.zones", message, code}."""
    if isinstance(details, dict) and isinstance(details.get("message"), str) and "code" in details:
        yield {"field": path, "message": details["message"], "code": details["code"]}
    elif isinstance(details, dict):
        for name, inner in details.items():
            here = "" if name == "non_field_errors" else str(name)
            yield from _flat(inner, ".".join(part for part in (path, here) if part))
    elif isinstance(details, list):
        for inner in details:
            yield from _flat(inner, path)


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if auth_header := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth_header
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait))
    return headers


def _body(
    path: str, status: int, code: str, detail: str, *, errors: list[dict[str, str]] | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "type": f"urn:inventiv:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": path,
        "errors": errors or [],
        **more,
    }


# --- outside them: middleware, unknown addresses, what Django itself refuses ---------------------------------------


def problem(request: HttpRequest, status: int, code: str, detail: str) -> JsonResponse:
    return JsonResponse(_body(request.path, status, code, detail), status=status, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if request.path.startswith(_PAGES_FOR_PEOPLE):
        return defaults.bad_request(request, exception)
    return problem(request, 400, "bad_request", "This request can't be understood.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if request.path.startswith(_PAGES_FOR_PEOPLE):
        return defaults.permission_denied(request, exception)
    return problem(request, 403, "permission_denied", "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if request.path.startswith(_PAGES_FOR_PEOPLE):
        return defaults.page_not_found(request, exception)
    return problem(request, 404, "not_found", "There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponseBase:
    if request.path.startswith(_PAGES_FOR_PEOPLE):
        return defaults.server_error(request)
    return problem(request, 500, Unexpected.default_code, Unexpected.default_detail)
