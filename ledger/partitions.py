"""The monthly partitions of the calls: listed, made ahead, and the alarm for calls that found no month of their own."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import msgspec
from django.db import connection

from ledger.models import ArchivedMonth

_PARTITIONS = """
SELECT c.relname, pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'ledger_call'::regclass ORDER BY c.relname
"""
_NAME = re.compile(r"ledger_call_(\d{4})_(\d\d)")


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition, or a month that had one.

    month: its first day, None for the default partition. calls: exact when `counted`, else the planner's estimate.
    """

    name: str
    month: date | None
    size_bytes: int
    calls: int
    counted: bool
    archived_at: datetime | None = None
    dropped_at: datetime | None = None

    @property
    def state(self) -> str:
        if self.month is None:
            return "default: must stay empty"
        if self.dropped_at is not None:
            return "dropped"
        return "archived" if self.archived_at is not None else "open"


def partitions(*, count: bool = False) -> list[Partition]:
    """Every partition by name, then the dropped months. `count`: count rows exactly, which reads each partition."""
    archived = {row.month: row for row in ArchivedMonth.objects.all()}
    with connection.cursor() as cursor:
        cursor.execute(_PARTITIONS)
        found = [(name, int(size), int(estimate)) for name, size, estimate in cursor.fetchall()]
    listed = [
        _partition(name, size, _count(name) if count else estimate, count, archived) for name, size, estimate in found
    ]
    present = {each.month for each in listed}
    gone = [row for row in archived.values() if row.month not in present]
    return listed + [
        Partition(
            name=name_of(row.month), month=row.month, size_bytes=0, calls=row.calls, counted=True,
            archived_at=row.archived_at, dropped_at=row.dropped_at,
        )
        for row in sorted(gone, key=lambda row: row.month)
    ]  # fmt: skip


def create_ahead(*, months: int) -> int:
    """Make the partitions of this month and the `months` after it; returns how many were missing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions(now(), %s)", [months + 1])
        return int(cursor.fetchone()[0])


def strays() -> str | None:
    """Why the default partition needs somebody, or None while it is empty. Reads one row at most."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM ledger_call_default LIMIT 1")
        found = cursor.fetchone()
    if found is None:
        return None
    return f"calls lie in the default partition ({found[0]}): nobody made their month's"


def name_of(month: date) -> str:
    """The table that holds the calls of a month."""
    return f"ledger_call_{month:%Y_%m}"


def bounds(month: date) -> tuple[datetime, datetime]:
    """[start, end) of the UTC month that `month` lies in."""
    start = datetime(month.year, month.month, 1, tzinfo=UTC)
    return start, datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def _partition(name: str, size: int, calls: int, counted: bool, archived: dict[date, ArchivedMonth]) -> Partition:
    match = _NAME.fullmatch(name)
    month = date(int(match[1]), int(match[2]), 1) if match else None
    row = archived.get(month) if month is not None else None
    return Partition(
        name=name, month=month, size_bytes=size, calls=calls, counted=counted,
        archived_at=row.archived_at if row else None, dropped_at=row.dropped_at if row else None,
    )  # fmt: skip


def _count(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(name)}")  # noqa: S608  # a name from pg_class
        return int(cursor.fetchone()[0])
