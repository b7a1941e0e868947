"""Which months' calls are no longer in the database."""

from __future__ import annotations

from datetime import date

from ledger.models import ArchivedMonth


def dropped_months() -> set[date]:
    """The first days of the months whose calls were archived and dropped."""
    return set(ArchivedMonth.objects.filter(dropped_at__isnull=False).values_list("month", flat=True))
