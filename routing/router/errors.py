"""What can go wrong for a client, in OpenAI's envelope: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import json

_INVALID = "invalid_request_error"
_RETRY_AFTER = "2"  # seconds


class ApiError(Exception):
    """An answer that is an error. Raise it before the response has begun; its message is shown to the client."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = _INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = headers

    def envelope(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()

    def event(self) -> bytes:
        """The same for a stream that has begun: an event of its own."""
        return b"data: " + self.envelope() + b"\n\n"


def bad_request(message: str, *, param: str | None = None) -> ApiError:
    return ApiError(400, message, param=param)


def not_http(reason: str) -> ApiError:
    return ApiError(400, f"This is no HTTP/1.1 request: {reason}")


def invalid_key(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers=((b"www-authenticate", b"Bearer"),))


def unknown_path(method: str, path: str) -> ApiError:
    return ApiError(404, f"Invalid URL ({method} {path})", code="unknown_url")


def model_not_found(model: str) -> ApiError:
    return ApiError(404, f"The model '{model}' does not exist", code="model_not_found", param="model")


def model_not_allowed(model: str) -> ApiError:
    return ApiError(403, f"This API key may not call the model '{model}'", code="model_not_allowed", param="model")


def method_not_allowed(method: str, path: str, *, allow: str) -> ApiError:
    message = f"{method} is not allowed for {path}; use {allow}"
    return ApiError(405, message, code="method_not_allowed", headers=((b"allow", allow.encode()),))


def headers_too_slow() -> ApiError:
    return ApiError(408, "The request's headers did not arrive in time", code="request_timeout")


def body_too_slow() -> ApiError:
    return ApiError(408, "The request's body did not arrive in time", code="request_timeout")


def body_too_large(limit: int) -> ApiError:
    return ApiError(413, f"The request's body is larger than {limit} bytes", code="request_too_large")


def headers_too_large(reason: str) -> ApiError:
    return ApiError(431, f"The request's headers are too large: {reason}", code="headers_too_large")


def rate_limited(message: str, *, retry_after: int, headers: tuple[tuple[bytes, bytes], ...] = ()) -> ApiError:
    return ApiError(
        429,
        message,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        headers=((b"retry-after", b"%d" % retry_after), *headers),
    )


def budget_used_up() -> ApiError:
    return ApiError(
        429, "This API key has used up its budget of the month", type="insufficient_quota", code="insufficient_quota"
    )


def queue_full(model: str) -> ApiError:
    return rate_limited(f"Too many requests wait for '{model}'; try again soon", retry_after=2)


def our_fault() -> ApiError:
    return ApiError(500, "The router failed; the request's id is in x-request-id", type="server_error")


def upstream_failed(message: str) -> ApiError:
    return ApiError(502, message, type="server_error", code="upstream_error")


def upstream_too_slow(message: str) -> ApiError:
    return ApiError(504, message, type="server_error", code="upstream_error")


def none_ready(model: str) -> ApiError:
    return _unavailable(f"No instance of '{model}' is ready; try again soon")


def waited_in_vain(model: str) -> ApiError:
    return _unavailable(f"All instances of '{model}' are busy; try again soon")


def busy() -> ApiError:
    return _unavailable("The model's workers are busy; try again soon")


def index_lost() -> ApiError:
    return _unavailable("The router does not know its instances at the moment; try again soon")


def stopping() -> ApiError:
    return _unavailable("The router is being stopped; try again")


def _unavailable(message: str) -> ApiError:
    return ApiError(
        503,
        message,
        type="service_unavailable_error",
        code="no_ready_instance",
        headers=((b"retry-after", _RETRY_AFTER.encode()),),
    )
