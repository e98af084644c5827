"""Ids that no other process and no other request has, for a tenth of what a random UUID costs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count


def unique_ids() -> Iterator[str]:
    """32 hexadecimal digits each, the shape of a UUID: 80 random bits of this process, and a number of 48 bits."""
    process = secrets.token_hex(10)
    return (f"{process}{number:012x}" for number in count())
