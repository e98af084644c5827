"""No body may be larger than an honest request: its header is enough to refuse it, and none of it is kept."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inventiv.api.problems import problem

# Many clients look at the answer only once they have sent everything, and closing on them earlier would show them
# a broken pipe. So what is refused is let through to nowhere, up to this many bytes.
_LINGER = 64 * 1024 * 1024
_PIECE = 64 * 1024


class BodyLimit:
    """Middleware. 413 above DATA_UPLOAD_MAX_MEMORY_SIZE; 411 without a length, which Django would take for empty."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.META.get("HTTP_TRANSFER_ENCODING"):
            _discard(request, _LINGER)
            return problem(request, 411, "length_required", "Send the body with a Content-Length, not in chunks.")
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdecimal():
            return problem(request, 400, "parse_error", "Content-Length is not a number.")
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        if int(length) > limit:
            _discard(request, min(int(length), _LINGER))
            return problem(request, 413, "too_large", f"A body may have {limit} bytes; this one has {length}.")
        return self._get_response(request)


def _discard(request: HttpRequest, count: int) -> None:
    stream = request.META["wsgi.input"]
    try:
        while count > 0 and (piece := stream.read(min(count, _PIECE))):
            count -= len(piece)
    except OSError:
        pass  # the client has gone
