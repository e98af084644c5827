"""How the catalogue's lists write links, prices and stock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlencode

from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from catalog import currency, hand_edits
from catalog.hand_edits import SyncedRow
from catalog.models import InstanceAvailability
from catalog.models.instance_type import Stock

NOTHING = "–"

# The tones of the admin's style sheet.
_STOCK_TONES = {Stock.AVAILABLE: "good", Stock.SCARCE: "warn", Stock.SHORTAGE: "bad", Stock.UNKNOWN: "quiet"}


def link(row: Model) -> SafeString:
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}" class="inv-nowrap">{}</a>', url, row)


def list_link(model: type[Model], text: object, query: Mapping[str, object]) -> SafeString:
    """To the list of a model's rows, narrowed by the query."""
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return format_html('<a href="{}?{}">{}</a>', url, urlencode(query), text)


def price(amount: Decimal, code: str) -> str:
    """At least two decimals, and no more than the price has: 6.3 reads 6.30, 1.469916 as it is."""
    exponent = amount.normalize().as_tuple().exponent
    decimals = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{amount:.{decimals}f} {code}"


def cheapest(offers: Iterable[InstanceAvailability]) -> str:
    best = min(
        (offer for offer in offers if offer.vanished_at is None),
        key=lambda offer: currency.convert(offer.price_per_hour, offer.currency, to=currency.REFERENCE),
        default=None,
    )
    return NOTHING if best is None else price(best.price_per_hour, best.currency)


def stock_badge(stock: str) -> SafeString:
    return _badge(Stock(stock), str(Stock(stock).label))


def stock_badges(offers: Iterable[InstanceAvailability]) -> SafeString | str:
    """A badge for each zone, in the colour of its stock."""
    badges = [_zone_badge(offer) for offer in offers]
    return format_html_join(" ", "{}", ((badge,) for badge in badges)) if badges else NOTHING


def learned(last_success_at: datetime | None, last_stockout_at: datetime | None) -> str:
    """What our own tries taught, the latest first: "sold out 2026-11-23 12:00, rented 2026-11-20 08:15"."""
    told = [(at, word) for at, word in ((last_success_at, "rented"), (last_stockout_at, "sold out")) if at is not None]
    return ", ".join(f"{word} {at:%Y-%m-%d %H:%M}" for at, word in sorted(told, reverse=True)) or NOTHING


def instant(at: datetime | None) -> str:
    return NOTHING if at is None else f"{at:%Y-%m-%d %H:%M}"


def source(row: SyncedRow) -> str:
    """Whose the row is: the sync's, an operator's, or the sync's but for some columns."""
    kept = hand_edits.edited(row)
    if len(kept) == len(hand_edits.COLUMNS[type(row)]):
        return "by hand"
    return f"synced, but for {', '.join(kept)}" if kept else "synced"


def _zone_badge(offer: InstanceAvailability) -> SafeString:
    if offer.vanished_at is not None:
        title = f"No longer listed by the provider, since {instant(offer.vanished_at)}"
        return format_html('<span class="inv-badge inv-quiet inv-gone" title="{}">{}</span>', title, offer.zone)
    stock = Stock(offer.stock)
    title = f"{stock.label}, {price(offer.price_per_hour, offer.currency)} per hour"
    return _badge(stock, str(offer.zone), title=title)


def _badge(stock: Stock, text: str, *, title: str = "") -> SafeString:
    return format_html('<span class="inv-badge inv-{}" title="{}">{}</span>', _STOCK_TONES[stock], title, text)
