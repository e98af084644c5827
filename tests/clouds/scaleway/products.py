"""`/instance/v1/zones/{zone}/products/servers`: the price list, and the stock."""

from __future__ import annotations

from tests.clouds.scaleway.exchange import Answer, Request, page_of, total_of
from tests.clouds.scaleway.machine_types import in_zone, product
from tests.clouds.scaleway.state import Books


def listing(books: Books, request: Request, zone: str) -> Answer:
    types = sorted(in_zone(zone).values(), key=lambda entry: entry.name)
    page = {entry.name: product(entry) for entry in page_of(request, types, books.faults)}
    return Answer(200, {"servers": page}, {"X-Total-Count": str(total_of(types, books.faults))})


def availability(books: Books, request: Request, zone: str) -> Answer:
    names = sorted(in_zone(zone))
    page = {name: {"availability": _stock(books, name, zone)} for name in page_of(request, names, books.faults)}
    return Answer(200, {"servers": page}, {"X-Total-Count": str(total_of(names, books.faults))})


def _stock(books: Books, name: str, zone: str) -> str:
    return "shortage" if books.faults.is_sold_out(name, zone) else "available"
