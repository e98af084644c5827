"""How Scaleway refuses: a type in the body, and a status that does not always go with it."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """An answer that is not a success. `body`: JSON, HTML, or nothing at all."""

    def __init__(self, status: int, body: dict[str, Any] | str | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


def not_found(resource: str, id_: str) -> Refused:
    body = {"type": "not_found", "message": "resource is not found", "resource": resource, "resource_id": id_}
    return Refused(404, body)


def invalid_argument(name: str, reason: str = "constraint", help_message: str = "") -> Refused:
    detail = {"argument_name": name, "reason": reason, "help_message": help_message}
    return Refused(400, {"type": "invalid_arguments", "message": "invalid argument(s)", "details": [detail]})


def denied_authentication() -> Refused:
    return Refused(401, {"type": "denied_authentication", "message": "authentication is denied", "method": "api_key"})


def permissions_denied() -> Refused:
    details = [{"resource": "instance_server", "action": "write"}]
    return Refused(403, {"type": "permissions_denied", "message": "insufficient permissions", "details": details})


def quotas_exceeded(resource: str) -> Refused:
    details = [{"resource": resource, "quota": 0, "current": 0}]
    return Refused(
        403, {"type": "quotas_exceeded", "message": "quota(s) exceeded for this resource", "details": details}
    )


def out_of_stock(resource: str) -> Refused:
    return Refused(412, {"type": "out_of_stock", "message": "resource is out of stock", "resource": resource})


def transient_state(resource: str, id_: str, state: str) -> Refused:
    body = {
        "type": "transient_state",
        "message": "resource is in a transient state",
        "resource": resource,
        "resource_id": id_,
        "current_state": state,
    }
    return Refused(409, body)


def precondition_failed(precondition: str, help_message: str) -> Refused:
    body = {
        "type": "precondition_failed",
        "message": "precondition is not respected",
        "precondition": precondition,
        "help_message": help_message,
    }
    return Refused(400, body)


def too_many_requests() -> Refused:
    return Refused(429)


def bad_gateway() -> Refused:
    return Refused(502, "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
