"""What moto does not have: the price list, the quotas of EC2 and the SSM parameter of the deep learning image."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from werkzeug.wrappers import Response

from fleet.providers.aws.images import DEFAULT_IMAGE
from tests.clouds.aws import wire
from tests.clouds.aws.wire import Call

IMAGE = "ami-dca37ea5"  # moto's "Deep Learning AMI Ubuntu"
PRICES = {  # us-east-1, USD an hour, July 2026
    "g4dn.xlarge": Decimal("0.526"),
    "g5.xlarge": Decimal("1.006"),
    "g6.xlarge": Decimal("0.8048"),
    "g6e.xlarge": Decimal("1.861"),
    "p5.48xlarge": Decimal("55.04"),
}


class Catalogue:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.quotas: dict[str, float] = dict.fromkeys(("L-DB2E81BA", "L-417A185B", "L-3819A6DF", "L-7212CCBC"), 64.0)

    def answer(self, call: Call) -> Response | None:
        """None: it's a question for moto."""
        match call.operation:
            case "GetProducts":
                return _products(call)
            case "GetServiceQuota":
                return self._quota(call)
            case "GetParameter" if call.parameters.get("Name") == DEFAULT_IMAGE:
                parameter = {"Name": DEFAULT_IMAGE, "Type": "String", "Value": IMAGE, "Version": 7}
                return wire.answer_json({"Parameter": parameter})
        return None

    def _quota(self, call: Call) -> Response:
        code = call.parameters["QuotaCode"]
        if code not in self.quotas:
            return wire.error(call, 400, "NoSuchResourceException")
        return wire.answer_json({"Quota": {"ServiceCode": "ec2", "QuotaCode": code, "Value": self.quotas[code]}})


def _products(call: Call) -> Response:
    wanted = {one["Field"]: one["Value"] for one in call.parameters["Filters"]}
    price = PRICES.get(wanted["instanceType"]) if wanted["regionCode"] == "us-east-1" else None
    products = [] if price is None else [_product(wanted["instanceType"], price), _product("a capacity block", 0)]
    return wire.answer_json({"FormatVersion": "aws_v1", "PriceList": [json.dumps(product) for product in products]})


def _product(instance_type: str, price: Decimal | int) -> dict[str, Any]:
    """A product of the price list, cut down to its shape."""
    dimension = {"unit": "Hrs", "pricePerUnit": {"USD": f"{price:.10f}"}, "appliesTo": [], "beginRange": "0"}
    reserved = {"unit": "Quantity", "pricePerUnit": {"USD": "1.0000000000"}}
    return {
        "product": {"productFamily": "Compute Instance", "attributes": {"instanceType": instance_type}, "sku": "S"},
        "terms": {
            "OnDemand": {"S.JRTCKXETXF": {"priceDimensions": {"S.JRTCKXETXF.6YS6EN2CT7": dimension}}},
            "Reserved": {"S.NQ3QZPMQV9": {"priceDimensions": {"S.NQ3QZPMQV9.2TG2D8R56U": reserved}}},
        },
        "version": "20260701000000",
    }
