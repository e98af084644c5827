"""Listings, page by page. One that ended half-way keeps what it has and the reason, and never passes for whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fleet.providers.base import ProviderError, Unavailable
from fleet.providers.scaleway.exchange import Answer, Exchange, Json

_PER_PAGE = 100  # the most that the API gives; by itself it gives 50


@dataclass
class Listing:
    """`items` by their id or name, in the cloud's order."""

    items: dict[str, Json] = field(default_factory=dict)
    failure: ProviderError | None = None

    def whole(self) -> dict[str, Json]:
        """All there is. Raises what cut the listing short."""
        if self.failure is not None:
            raise self.failure
        return self.items

    def part(self) -> dict[str, Json]:
        """What was listed. Raises if not even a part could be."""
        return self.items or self.whole()


def take(exchange: Exchange, path: str, *, key: str, size: str, params: Json) -> Listing:
    """List all of `path`. `key`: where the items are; `size`: what the API calls the size of a page."""
    listing = Listing()
    totals: set[int | None] = set()
    try:
        for answer in _pages(exchange, path, key=key, size=size, params=params):
            known = len(listing.items)
            totals.add(answer.total)
            listing.items.update(_items(answer, key))
            if len(listing.items) == known:
                break  # the end; or the same page for ever, from who passes over the page's number
    except ProviderError as error:
        listing.failure = error
        return listing
    # Something that was made or deleted while the pages were turned pushes others from one page to another, unseen.
    if totals != {None} and totals != {len(listing.items)}:
        listing.failure = Unavailable(f"GET {path}: {len(listing.items)} listed of {totals}: it changed on the way")
    return listing


def _pages(exchange: Exchange, path: str, *, key: str, size: str, params: Json) -> Iterator[Answer]:
    page, seen = 1, 0
    while True:
        answer = exchange.ask("GET", path, params={**params, "page": page, size: _PER_PAGE})
        yield answer
        count = _count(answer.payload.get(key))
        seen += count
        if count < _PER_PAGE if answer.total is None else seen >= answer.total:
            return
        page += 1


def _count(found: object) -> int:
    return len(found) if isinstance(found, list | dict) else 0


def _items(answer: Answer, key: str) -> dict[str, Json]:
    """The API lists most things in an array, and products in an object by their name."""
    found = answer.payload.get(key)
    if isinstance(found, dict):
        return {name: item for name, item in found.items() if isinstance(item, dict)}
    items = found if isinstance(found, list) else []
    return {item["id"]: item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)}
