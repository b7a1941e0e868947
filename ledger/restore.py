"""Bringing a dropped month back: from the very file that was archived, compared row by row, then proven like any other.

For an audit of single calls, an export or a late correction. Afterwards the month is "archived" again, as before its
drop, and can be dropped anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import psycopg
from django.db import Error, connection, transaction

from ledger import archive, verify
from ledger.archive import LOCK_TIMEOUT, ArchiveError
from ledger.models import ArchivedMonth
from ledger.partitions import bounds, name_of

# What was kept in the place of the calls, and its triggers.
_KEPT = ("ledger_archivedrollup", "ledger_archivedwindow", "ledger_archivedbatch")


def restore(*, month: date, path: Path | None = None) -> ArchivedMonth:
    """Make the month's partition anew and fill it from its file. `path`: where the file lies now, if it was moved.

    One transaction: the calls are back with the books right, or nothing has changed. Only the tables' owner can.
    Raises ArchiveError: not dropped, the file is missing or not the one recorded, its rows or sums do not fit the
    books, calls of the month lie elsewhere, somebody uses the tables.
    """
    start, _ = bounds(month)
    row = ArchivedMonth.objects.filter(month=start.date(), dropped_at__isnull=False).first()
    if row is None:
        raise ArchiveError(f"{start:%Y-%m} was not dropped: its calls are in the database, or never were.")
    file = path or Path(row.path)
    if not file.is_file() or archive.sha256_of(file) != row.sha256:
        raise ArchiveError(f"{file} is not the file that was archived (SHA-256 {row.sha256}).")
    try:
        with transaction.atomic():
            _restore(row, file=file, start=start)
    except Error as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise ArchiveError("Others are using the calls: nothing was restored; try when it is quiet.") from None
        if isinstance(error.__cause__, psycopg.errors.CheckViolation):
            raise ArchiveError(
                f"Calls of {start:%Y-%m} lie in the default partition: look at what manage.py partitions says."
            ) from None
        raise
    row.refresh_from_db()
    return row


def _restore(row: ArchivedMonth, *, file: Path, start: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute("SELECT ledger_make_partitions(%s, 1)", [start])
        if cursor.fetchone() != (1,):
            raise ArchiveError(f"There is a table {name_of(row.month)} already.")
    _fill(file)
    calls = archive.compare(month=row.month, path=file)
    if calls != row.calls:
        raise ArchiveError(f"{file} holds {calls} calls, {row.calls} were archived.")
    with _kept_sums_may_go(), connection.cursor() as cursor:
        for table in _KEPT:
            cursor.execute(f"DELETE FROM {table} WHERE month = %s", [row.month])  # noqa: S608  # of the names above
        cursor.execute("UPDATE ledger_archivedmonth SET dropped_at = NULL WHERE month = %s", [row.month])
    differences = verify.differences(verify.month(start))
    if differences:
        raise ArchiveError(f"With {start:%Y-%m} back the books are wrong: {differences[0].line}. Nothing was restored.")


@contextmanager
def _kept_sums_may_go() -> Iterator[None]:
    """Within, the triggers that keep the sums of dropped months are off: in this transaction, for their owner alone."""
    tables = (*_KEPT, "ledger_archivedmonth")
    triggers = [(table, name) for table in tables for name in _triggers_of(table)]
    with connection.cursor() as cursor:
        for table, name in triggers:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER {name}")
        yield
        for table, name in triggers:
            cursor.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}")


def _triggers_of(table: str) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(tgname) FROM pg_trigger WHERE tgrelid = %s::regclass AND NOT tgisinternal ORDER BY 1",
            [table],
        )
        return [str(name) for (name,) in cursor.fetchall()]


def _fill(file: Path) -> None:
    """Copy the file's rows into the calls; the last column of a row is what its batch's hash covers, not a column."""
    names = archive.columns_of(file)
    wanted = [name for name, _ in archive.layout()]
    if names != wanted:
        odd = sorted(set(names) ^ set(wanted))
        raise ArchiveError(f"{file} has other columns than the calls have now: {', '.join(odd) or 'another order'}.")
    into = f"COPY ledger_call ({', '.join(wanted[:-1])}) FROM STDIN"
    with connection.cursor() as cursor, closing(archive.file_rows(file)) as rows:
        raw: Any = cursor
        with raw.copy(into) as copy:
            for values in rows:
                copy.write_row(values[:-1])
