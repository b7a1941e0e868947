"""Which months' calls are no longer in the database."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from ledger.models import ArchivedMonth


def dropped_months() -> set[date]:
    """The first days of the months whose calls were archived and dropped."""
    return set(ArchivedMonth.objects.filter(dropped_at__isnull=False).values_list("month", flat=True))


def why_gone(*, start: datetime, end: datetime) -> str | None:
    """Why the calls of [start, end) cannot all be read, with what to do about it; None when every month is there."""
    first, last = start.date().replace(day=1), (end - timedelta(microseconds=1)).date()
    gone = min((month for month in dropped_months() if first <= month <= last), default=None)
    if gone is None:
        return None
    return (
        f"{gone:%Y-%m} was archived and dropped: choose other days, or bring its calls back with manage.py partitions"
        f" --restore {gone:%Y-%m}."
    )
