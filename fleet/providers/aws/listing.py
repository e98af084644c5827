"""Listings, all their pages. One that ends half-way says so and keeps what it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from fleet.providers.aws.errors import translated
from fleet.providers.base import ProviderError

if TYPE_CHECKING:
    from types_boto3_ec2.client import EC2Client
    from types_boto3_ec2.type_defs import FilterTypeDef, InstanceTypeDef, VolumeTypeDef

_PAGE_SIZE = 100

Page = TypeVar("Page")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Listing(Generic[Item]):
    items: tuple[Item, ...]
    error: ProviderError | None = None  # what ended it before its end

    def whole(self) -> tuple[Item, ...]:
        """The items, if these are all. Raises what ended the listing otherwise."""
        if self.error is not None:
            raise self.error
        return self.items


def instances(ec2: EC2Client, filters: Mapping[str, str]) -> Listing[InstanceTypeDef]:
    """Instances in every state, ones that are terminated but still listed too."""
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=_filters(filters), PaginationConfig={"PageSize": _PAGE_SIZE}
    )
    return _collect(
        pages, lambda page: [one for group in page.get("Reservations", []) for one in group.get("Instances", [])]
    )


def volumes(ec2: EC2Client, filters: Mapping[str, str]) -> Listing[VolumeTypeDef]:
    pages = ec2.get_paginator("describe_volumes").paginate(
        Filters=_filters(filters), PaginationConfig={"PageSize": _PAGE_SIZE}
    )
    return _collect(pages, lambda page: page.get("Volumes", []))


def _filters(filters: Mapping[str, str]) -> list[FilterTypeDef]:
    return [{"Name": name, "Values": [value]} for name, value in filters.items()]


def _collect(pages: Iterable[Page], items_of: Callable[[Page], Iterable[Item]]) -> Listing[Item]:
    items: list[Item] = []
    try:
        with translated():
            for page in pages:
                items.extend(items_of(page))
    except ProviderError as error:
        return Listing(tuple(items), error)
    return Listing(tuple(items))
