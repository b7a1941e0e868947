"""Moving a month of calls out of the database: to a Parquet file that is proven equal first, then dropped.

The file holds every column and, in `row_bytes`, what the batch's hash covers, so that the chain can be recomputed from
files alone. What verify_ledger and the limits still need stays as sums (docs/decisions/dropped-months.md).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import closing
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from django.db import Error, connection, transaction

from ledger import ids, itemised, verify
from ledger.models import ArchivedMonth, Call, Hold
from ledger.partitions import bounds, name_of

_CHUNK = 5_000
LOCK_TIMEOUT = "10s"


class ArchiveError(Exception):
    """A month that cannot be archived or dropped as it is. The message says what to do."""


def archive(*, month: date, folder: Path, now: datetime) -> ArchivedMonth:
    """Verify the month, write its calls to `folder`, read the file back, compare every row, record it.

    Archiving a month again replaces its record and file. Raises ArchiveError: the month is not over, its books are
    wrong, the file differs from the table, pyarrow is missing, the month is dropped already.
    """
    start, end = bounds(month)
    _refuse_unarchivable(start.date(), end=end, now=now)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name_of(start.date())}.parquet"
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with itemised.one_snapshot():
            differences = verify.differences(verify.month(start))
            if differences:
                first = differences[0].line
                raise ArchiveError(f"The books of {start:%Y-%m} are wrong: {first}. Run manage.py verify_ledger.")
            _write(start.date(), unfinished)
            calls = compare(month=start.date(), path=unfinished)
        unfinished.replace(path)
        _sync(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    values = {
        "path": str(path.resolve()), "sha256": sha256_of(path), "bytes": path.stat().st_size, "calls": calls,
        "archived_at": now,
    }  # fmt: skip
    return ArchivedMonth.objects.update_or_create(month=start.date(), defaults=values)[0]


def drop(*, month: date, now: datetime, path: Path | None = None) -> ArchivedMonth:
    """Drop the partition of an archived month, keeping its sums. `path`: where the file lies now, if it was moved.

    Calls and file are compared once more under a lock. Raises ArchiveError: not archived, the file is missing or not
    the one recorded, the calls differ from it, calls of the month are still open, somebody uses the table.
    """
    start, end = bounds(month)
    row = ArchivedMonth.objects.filter(month=start.date()).first()
    if row is None:
        raise ArchiveError(f"{start:%Y-%m} is not archived: run manage.py partitions --archive {start:%Y-%m} first.")
    if row.dropped_at is not None:
        raise ArchiveError(f"{start:%Y-%m} was dropped on {row.dropped_at:%Y-%m-%d} already.")
    file = path or Path(row.path)
    if not file.is_file() or sha256_of(file) != row.sha256:
        raise ArchiveError(f"{file} is not the file that was archived (SHA-256 {row.sha256}).")
    if Hold.objects.filter(id__gte=ids.floor(start), id__lt=ids.floor(end)).exists():
        raise ArchiveError(f"Calls of {start:%Y-%m} are still open: run manage.py sweep.")
    try:
        with transaction.atomic():
            _drop(row, file=file, start=start, end=end, now=now)
    except Error as error:
        if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
            raise ArchiveError("Others are using the calls: nothing was dropped; try again when it is quiet.") from None
        raise
    return row


def compare(*, month: date, path: Path) -> int:
    """How many calls the file and the table both hold, read side by side; ArchiveError at the first difference."""
    calls = 0
    # Closed here: a cursor that is left to the garbage collector outlives the transaction that it belongs to.
    with closing(_table_rows(month)) as table, closing(file_rows(path)) as file:
        for stored in table:
            if next(file, None) != stored:
                raise ArchiveError(f"{path} differs from the table at call {stored[0]}: archive the month again.")
            calls += 1
        if next(file, None) is not None:
            raise ArchiveError(f"{path} holds calls that the table does not: archive the month again.")
    return calls


def columns_of(path: Path) -> list[str]:
    """The names of a file's columns, in order."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ArchiveError("Reading an archive needs pyarrow: pip install -r requirements-parquet.txt") from None

    with pq.ParquetFile(path) as file:
        return list(file.schema_arrow.names)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_unarchivable(month: date, *, end: datetime, now: datetime) -> None:
    if end > now:
        raise ArchiveError(f"{month:%Y-%m} is not over.")
    if ArchivedMonth.objects.filter(month=month, dropped_at__isnull=False).exists():
        raise ArchiveError(f"{month:%Y-%m} was archived and dropped already.")
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NULL", [name_of(month)])
        if cursor.fetchone()[0]:
            raise ArchiveError(f"There is no partition of {month:%Y-%m}.")


def _drop(row: ArchivedMonth, *, file: Path, start: datetime, end: datetime, now: datetime) -> None:
    table = connection.ops.quote_name(name_of(row.month))
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        cursor.execute("SET LOCAL statement_timeout = 0")
        # From here on no call enters the month, nor, for the short rest, does an adjustment move its sums.
        cursor.execute(f"LOCK TABLE {table} IN SHARE MODE")
        compare(month=row.month, path=file)
        cursor.execute("LOCK TABLE ledger_adjustment IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(
            "SELECT ledger_summarise_month(%s, %s, %s)", [row.month, ids.floor(start), ids.floor(end)]
        )
        cursor.execute(f"DROP TABLE {table}")
    row.dropped_at = now
    row.save(update_fields=["dropped_at"])


# --- rows as the file has them ------------------------------------------------------------------------------------

# Django's type of a column -> how it is read from the table (uuid and JSON as text, so that both sides compare equal).
_AS_TEXT = {"UUIDField", "JSONField"}


def layout() -> list[tuple[str, str]]:
    """(column, Django's type) of every column of a call, then the bytes its batch's hash covers."""
    found = [(str(field.column), _kind(field)) for field in Call._meta.concrete_fields]
    return [*found, ("row_bytes", "BinaryField")]


def _kind(field: Any) -> str:
    if field.is_relation:
        return str(field.target_field.get_internal_type())
    kind = str(field.get_internal_type())
    return f"{kind}:{field.base_field.get_internal_type()}" if kind == "ArrayField" else kind


def _table_rows(month: date) -> Generator[tuple[Any, ...], None, None]:
    wanted = [
        "ledger_call_bytes(c.*)" if name == "row_bytes" else f"c.{name}::text" if kind in _AS_TEXT else f"c.{name}"
        for name, kind in layout()
    ]
    start, end = bounds(month)
    query = f"SELECT {', '.join(wanted)} FROM ledger_call c WHERE c.id >= %s AND c.id < %s ORDER BY c.id"  # noqa: S608
    with connection.chunked_cursor() as cursor:
        cursor.execute(query, [ids.floor(start), ids.floor(end)])
        while rows := cursor.fetchmany(_CHUNK):
            for row in rows:
                yield tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)


def file_rows(path: Path) -> Generator[tuple[Any, ...], None, None]:
    """The rows of a file as `layout` names them."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_CHUNK):
            columns = [column.to_pylist() for column in batch.columns]
            yield from zip(*columns, strict=True)


def _write(month: date, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ArchiveError("Archiving needs pyarrow: pip install -r requirements-parquet.txt") from None
    kinds = {
        "UUIDField": pa.string(), "JSONField": pa.string(), "CharField": pa.string(), "BooleanField": pa.bool_(),
        "DateTimeField": pa.timestamp("us", tz="UTC"), "DecimalField": pa.decimal128(24, 12),
        "BinaryField": pa.binary(), "ArrayField:CharField": pa.list_(pa.string()),
        "ArrayField:BigIntegerField": pa.list_(pa.int64()),
    }  # fmt: skip
    schema = pa.schema([(name, kinds.get(kind, pa.int64())) for name, kind in layout()])
    rows = _table_rows(month)
    with path.open("wb") as out:
        with pq.ParquetWriter(out, schema, compression="zstd") as writer:
            while chunk := list(islice(rows, _CHUNK)):
                columns = zip(zip(*chunk, strict=True), schema.types, strict=True)
                arrays = [pa.array(values, kind) for values, kind in columns]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        out.flush()
        os.fsync(out.fileno())


def _sync(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
