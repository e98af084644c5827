"""How long rows are kept. The sums of the hours stay for good."""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from routing.models import RejectedUsage

_ROWS_AT_ONCE = 10_000  # a moment's work: nobody waits long for the locks and the log of such a transaction
_DELETE = """
    DELETE FROM usage_records
    WHERE ctid = ANY (ARRAY(SELECT ctid FROM usage_records WHERE ended_at < %s ORDER BY ended_at LIMIT %s))
"""


def forget(*, before: datetime, rounds: int = 50) -> int:
    """Delete rows that ended before, the oldest first; what is left after so many rounds waits for the next time.

    Returns how many were deleted.
    """
    RejectedUsage.objects.filter(rejected_at__lt=before).delete()
    total = 0
    for _ in range(rounds):
        with connection.cursor() as cursor:
            cursor.execute(_DELETE, [before, _ROWS_AT_ONCE])
            deleted = cursor.rowcount
        total += deleted
        if deleted < _ROWS_AT_ONCE:
            break
    return total
