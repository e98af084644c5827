"""boto3's clients, by service and region, made at first use and shared by threads."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.loaders import Loader
from botocore.session import Session

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_pricing.client import PricingClient
    from types_boto3_service_quotas.client import ServiceQuotasClient
    from types_boto3_ssm.client import SSMClient
    from types_boto3_sts.client import STSClient

_PRICING_REGION = "us-east-1"  # the price list of all regions is served there


class Clients:
    def __init__(
        self, *, access_key_id: str, secret_access_key: str, endpoint_url: str | None, read_timeout: float
    ) -> None:
        session = Session()
        session.register_component("data_loader", _loader())
        session.register("before-parse.*", _make_readable)
        self.session = boto3.Session(
            aws_access_key_id=access_key_id or None,
            aws_secret_access_key=secret_access_key or None,
            botocore_session=session,
        )
        self._endpoint_url = endpoint_url
        self._read_timeout = read_timeout
        self._clients: dict[tuple[str, str, int], Any] = {}
        self._lock = Lock()

    def ec2(self, region: str) -> EC2Client:
        return cast("EC2Client", self._client("ec2", region))

    def ec2_once(self, region: str) -> EC2Client:
        """For creates: never repeats a request by itself.

        A repeat would hide what became of the first one: a time-out that made a machine, then a refused connection,
        would look as if nothing had been asked.
        """
        return cast("EC2Client", self._client("ec2", region, attempts=1))

    def ssm(self, region: str) -> SSMClient:
        return cast("SSMClient", self._client("ssm", region))

    def sts(self, region: str) -> STSClient:
        return cast("STSClient", self._client("sts", region))

    def service_quotas(self, region: str) -> ServiceQuotasClient:
        return cast("ServiceQuotasClient", self._client("service-quotas", region))

    def pricing(self) -> PricingClient:
        return cast("PricingClient", self._client("pricing", _PRICING_REGION))

    def _client(self, service: str, region: str, *, attempts: int = 2) -> Any:
        with self._lock:  # a client may be shared by threads, the making of one may not
            key = (service, region, attempts)
            if key not in self._clients:
                self._clients[key] = self.session.client(
                    service,
                    region_name=region,
                    endpoint_url=self._endpoint_url,
                    config=Config(
                        connect_timeout=5,
                        read_timeout=self._read_timeout,
                        retries={"mode": "standard", "total_max_attempts": attempts},
                    ),
                )
            return self._clients[key]


@cache
def _loader() -> Loader:
    """The service models, read once for all accounts: EC2's alone is 20 MB."""
    return cast(Loader, Session().get_component("data_loader"))


def _make_readable(**event: Any) -> None:
    """Give an error that has no document of AWS one that says its status.

    What stands between us and AWS answers in HTML or with nothing at all, and botocore's XML parsers forget the status
    of such an answer: a 429 with an empty body would just be "unreadable".
    """
    response, model = event["response_dict"], event["operation_model"]
    speaks_xml = model.service_model.protocol in {"ec2", "query"}
    if speaks_xml and response["status_code"] >= 400 and b"<Error>" not in response["body"]:
        error = f"<Error><Code>{response['status_code']}</Code><Message>(no message)</Message></Error>"
        response["body"] = f"<Response><Errors>{error}</Errors></Response>".encode()
