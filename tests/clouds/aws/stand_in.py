"""The stand-in's front door: HTTP on loopback, one server a process, as many clouds one after the other as you like."""

from __future__ import annotations

import re
import select
from collections.abc import Iterable
from datetime import timedelta
from functools import cache
from threading import Lock, Thread
from typing import Any

import moto.settings
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tests.clouds.aws import wire
from tests.clouds.aws.bill import Bill
from tests.clouds.aws.catalogue import Catalogue
from tests.clouds.aws.faults import Faults, Mishap, Refusal, Trouble
from tests.clouds.aws.machines import Machines
from tests.clouds.aws.wire import Call

_STATUS_OF_A_PAGE = {Mishap.HTML_200: 200, Mishap.HTML_404: 404, Mishap.HTML_502: 502}
_LONGER_THAN_ANY_TIME_OUT = 20  # seconds


class StandIn:
    def __init__(self) -> None:
        moto.settings.EC2_ENABLE_INSTANCE_TYPE_VALIDATION = True
        moto.settings.ENABLE_AMI_VALIDATION = True
        moto.settings.ENABLE_KEYPAIR_VALIDATION = True
        self.faults = Faults()
        self.machines = Machines()
        self.catalogue = Catalogue()
        self.bill = Bill(self.machines)
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()
        server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_QuietHandler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, daemon=True).start()
        self.reset()

    def reset(self) -> None:
        """Another cloud: nothing exists, and nothing goes wrong."""
        with self._lock:
            self.faults.clear()
            self.machines.reset()
            self.catalogue.reset()
            self.bill.reset()
            self.calls: list[Call] = []
            self.crashes: list[str] = []  # of its own, which a driver would take for a cloud's
            self.listings_end_half_way = False
            self.sold_out: set[tuple[str, str]] = set()  # type, zone
            self._made: dict[tuple[str, str, str], tuple[dict[str, Any], str, Response]] = {}

    def pass_time(self, wait: timedelta) -> None:
        with self._lock:
            self._settle(wait)

    def calls_to(self, operation: str) -> list[Call]:
        return [call for call in self.calls if call.operation == operation]

    # --- a call -----------------------------------------------------------------------------------------------------

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            call = wire.read(environ)
            self.calls.append(call)
            trouble = self.faults.meets(call)
            answer = self._befall(trouble, call, environ) if trouble else self._carry_out(call, environ)
            return answer(environ, start_response)
        except Exception as error:
            self.crashes.append(repr(error))
            raise

    def _befall(self, trouble: Trouble, call: Call, environ: dict[str, Any]) -> Any:
        if trouble is Mishap.ANSWER_LOST:
            self._carry_out(call, environ)
        if trouble is Mishap.HANG:
            select.select([environ["werkzeug.socket"]], [], [], _LONGER_THAN_ANY_TIME_OUT)
        if trouble in {Mishap.ANSWER_LOST, Mishap.REQUEST_LOST, Mishap.HANG}:
            return wire.hang_up
        return _instead_of_an_answer(trouble, call)

    def _carry_out(self, call: Call, environ: dict[str, Any]) -> Response:
        with self._lock:
            self._settle()
            response = self._respond(call, environ)
            self.bill.observe(self.machines.now)
            return response

    def _settle(self, wait: timedelta = timedelta(0)) -> None:
        for moment in self.machines.changes_until(self.machines.now + wait):
            self.bill.observe(moment)
        self.bill.observe(self.machines.now)

    def _respond(self, call: Call, environ: dict[str, Any]) -> Response:
        if (answer := self.catalogue.answer(call)) is not None:
            return answer
        if call.makes_a_server:
            return self._run_instances(call, environ)
        if call.operation == "DescribeInstances" and self.listings_end_half_way:
            return self._half_a_listing(call, environ)
        return self._ask_moto(environ)

    def _ask_moto(self, environ: dict[str, Any]) -> Response:
        response = Response.from_app(self._moto, environ, buffered=True)
        if response.status_code >= 500:
            self.crashes.append(response.get_data(as_text=True))
        return response

    def _half_a_listing(self, call: Call, environ: dict[str, Any]) -> Response:
        if "NextToken" in call.parameters:
            return wire.error(call, 503, "Unavailable")
        response = self._ask_moto(environ)
        text = re.sub(r"<nextToken>.*?</nextToken>|<nextToken ?/>", "", response.get_data(as_text=True))
        end = "</DescribeInstancesResponse>"
        response.set_data(text.replace(end, f"<nextToken>more</nextToken>{end}"))
        return response

    # --- making servers ---------------------------------------------------------------------------------------------

    def _run_instances(self, call: Call, environ: dict[str, Any]) -> Response:
        """With the idempotency that moto lacks: by token and zone, for equal parameters."""
        parameters = dict(call.parameters)
        zone, token = parameters.get("Placement.AvailabilityZone", ""), parameters.get("ClientToken", "")
        if token and (call.region, zone, token) in self._made:
            return self._again(call, *self._made[call.region, zone, token])
        if (parameters.get("InstanceType"), zone) in self.sold_out:
            return wire.error(call, 500, "InsufficientInstanceCapacity")  # EC2 does send it as a 500
        response = self._ask_moto(environ)
        made = re.search(r"<instanceId>(i-\w+)</instanceId>", response.get_data(as_text=True))
        if made:
            self._made[call.region, zone, token] = (parameters, made[1], response)
        return response

    def _again(self, call: Call, parameters: dict[str, Any], instance_id: str, response: Response) -> Response:
        if parameters != call.parameters:
            return wire.error(call, 400, "IdempotentParameterMismatch")
        if self.machines.region(call.region).get_instance(instance_id).state == "terminated":
            return wire.error(call, 400, "IdempotentInstanceTerminated")
        return response


class _QuietHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Not a line a call."""


def _instead_of_an_answer(trouble: Trouble, call: Call) -> Response:
    match trouble:
        case Refusal(status, code, message):
            return wire.error(call, status, code, message)
        case Mishap.EMPTY_PAGE:
            return wire.xml(f"<{call.operation}Response/>")
        case Mishap.EMPTY_429:
            return Response("", 429)
        case _:
            page = "<!DOCTYPE html><html><head><title>Sorry</title></head><body>Nothing here<hr></body></html>"
            return Response(page, _STATUS_OF_A_PAGE[trouble], content_type="text/html")


@cache
def stand_in() -> StandIn:
    """The process's own."""
    return StandIn()
