"""How the admin writes what many lists show: states, links, prices, ages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from django.contrib.admin.utils import quote
from django.db.models import Model
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from catalog.admin.columns import NOTHING, list_link, price
from fleet.models import Outcome
from fleet.states import DEFINITIONS, Status

__all__ = [
    "NOTHING",
    "age",
    "amounts",
    "badge",
    "link",
    "list_link",
    "moment",
    "outcome_badge",
    "per_hour",
    "price",
    "short",
    "status_badge",
]

_CENT = Decimal("0.01")

Tone = Literal["good", "busy", "warn", "bad", "quiet"]

STATUS_TONES: dict[Status, Tone] = {
    Status.PROVISIONING: "busy",
    Status.BOOTING: "busy",
    Status.READY: "good",
    Status.DRAINING: "warn",
    Status.TERMINATED: "quiet",
    Status.FAILED: "bad",
}

OUTCOME_TONES: dict[Outcome, Tone] = {
    Outcome.OPEN: "busy",
    Outcome.CREATED: "good",
    Outcome.REJECTED: "bad",
    Outcome.DESTROYED: "quiet",
}


def badge(text: str, tone: Tone, *, title: str = "") -> SafeString:
    return format_html('<span class="inv-badge inv-{}" title="{}">{}</span>', tone, title, text)


def status_badge(status: str) -> SafeString | str:
    """The status in its colour, its definition as a tooltip. Nothing for "", from which an instance begins."""
    if not status:
        return NOTHING
    known = Status(status)
    return badge(str(known.label), STATUS_TONES[known], title=DEFINITIONS[known])


def outcome_badge(outcome: str) -> SafeString:
    known = Outcome(outcome)
    word, _, definition = str(known.label).partition(": ")
    return badge(word, OUTCOME_TONES[known], title=definition.capitalize())


def short(row: Model) -> str:
    return str(row.pk)[:8]


def link(row: Model | None, text: str = "") -> SafeString | str:
    """To the row's own page."""
    if row is None:
        return NOTHING
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])
    return format_html('<a href="{}">{}</a>', url, text or str(row))


def per_hour(prices: Iterable[tuple[Decimal, str]]) -> str:
    """The sum, for each currency: "7.50 EUR and 1.20 USD per hour"."""
    sums: dict[str, Decimal] = {}
    for amount, currency in prices:
        sums[currency] = sums.get(currency, Decimal(0)) + amount
    if not sums:
        return "nothing"
    return " and ".join(price(amount, currency) for currency, amount in sorted(sums.items())) + " per hour"


def amounts(sums: Mapping[str, Decimal]) -> str:
    """To the cent: "7.52 EUR, 1.20 USD". What is less than one says so."""
    return ", ".join(_to_the_cent(amount, currency) for currency, amount in sums.items()) or NOTHING


def _to_the_cent(amount: Decimal, currency: str) -> str:
    return f"< {_CENT} {currency}" if 0 < amount < _CENT else price(amount.quantize(_CENT), currency)


def age(instant: datetime | None, now: datetime) -> str:
    """In the largest unit of which there are two: "45 s", "3 min", "26 h", "12 d"."""
    if instant is None:
        return NOTHING
    seconds = max(0, int((now - instant) / timedelta(seconds=1)))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(instant: datetime | None, now: datetime, tone: Tone | None = None) -> SafeString | str:
    """How long ago, with the instant itself as a tooltip; coloured if a tone is given."""
    if instant is None:
        return NOTHING
    ago = f"{age(instant, now)} ago"
    exact = f"{instant:%Y-%m-%d %H:%M:%S} UTC"
    if tone is not None:
        return badge(ago, tone, title=exact)
    return format_html('<span class="inv-nowrap" title="{}">{}</span>', exact, ago)
