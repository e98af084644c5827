"""AWS's calls and answers as they are on the wire: the EC2 and query protocols (XML) and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.wrappers import Response


@dataclass(frozen=True, slots=True)
class Call:
    service: str  # as it is signed: "ec2", "ssm" ...
    region: str
    operation: str
    parameters: Mapping[str, Any]  # of the query protocols flat: "Placement.AvailabilityZone"
    invocation: str  # the same for all attempts that the SDK makes at one call

    @property
    def makes_a_server(self) -> bool:
        return self.operation == "RunInstances" and self.parameters.get("DryRun") != "true"


def read(environ: dict[str, Any]) -> Call:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)  # for moto
    # Credential=<key>/<date>/<region>/<service>/aws4_request
    scope = environ.get("HTTP_AUTHORIZATION", "").partition("Credential=")[2].split(",")[0].split("/")
    region, service = scope[2:4] if len(scope) == 5 else ("", "")
    invocation = environ.get("HTTP_AMZ_SDK_INVOCATION_ID", "")
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return Call(service, region, target.rpartition(".")[2], json.loads(body or b"{}"), invocation)
    parameters = dict(parse_qsl(body.decode(), keep_blank_values=True))
    return Call(service, region, parameters.get("Action", ""), parameters, invocation)


def error(call: Call, status: int, code: str, message: str = "The stand-in says so.") -> Response:
    if call.service in {"ec2", "sts"}:
        inner = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        body = f"<Errors>{inner}</Errors>" if call.service == "ec2" else inner
        return xml(f'<?xml version="1.0"?><Response>{body}<RequestID>0</RequestID></Response>', status)
    return answer_json({"__type": code, "message": message}, status)


def xml(document: str, status: int = 200) -> Response:
    return Response(document, status, content_type="text/xml;charset=UTF-8")


def answer_json(document: Mapping[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/x-amz-json-1.1")


def hang_up(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Close the connection without an answer."""
    environ["werkzeug.socket"].shutdown(2)
    start_response("500 -", [])
    return [b"the client has gone"]
