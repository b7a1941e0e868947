"""A FOCUS export as a file: CSV, or Parquet where pyarrow is installed. Written row by row, in bounded memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from ledger.focus import COLUMNS, UNPRICED_COLUMNS, Export, FocusError, Value
from ledger.money import EXACT, format_short, format_usd

Format = Literal["csv", "parquet"]
FORMATS: tuple[Format, ...] = ("csv", "parquet")
CONTENT_TYPES: Mapping[Format, str] = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
_CHUNK = 5_000
_NUMBER_QUANTUM = Decimal(1).scaleb(-18)


class NoParquet(FocusError):
    """pyarrow is not installed."""

    def __init__(self) -> None:
        super().__init__("Parquet needs pyarrow: pip install -r requirements-parquet.txt, or take --format csv.")


def write(*, export: Export, format: Format, out: IO[bytes]) -> None:
    """Write every row of `export` to `out`. NoParquet before anything is written where pyarrow is missing."""
    {"csv": write_csv, "parquet": _write_parquet}[format](export.rows(), COLUMNS, out)


def write_unpriced(*, export: Export, out: IO[bytes]) -> None:
    """The calls of unknown cost as CSV, once the rows of `export` have been written."""
    write_csv(export.unpriced_rows(), UNPRICED_COLUMNS, out)


def month_of(text: str) -> date:
    """'2026-11' -> its first day. Raises FocusError."""
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        raise FocusError(f"{text!r} is no month: write it as 2026-11.") from None


def unpriced_path(path: Path) -> Path:
    """Where the list of unpriced calls goes: beside the export."""
    return path.with_name(f"{path.stem}.unpriced.csv")


def write_csv(rows: Iterable[Mapping[str, Value]], columns: Mapping[str, str], out: IO[bytes]) -> None:
    """UTF-8, a header, one line per row; an absent value is empty, an instant ends in Z, no number has an exponent."""
    writer = csv.writer(_Encoded(out))
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_text(row[name], kind) for name, kind in columns.items()])


class _Encoded:
    """What csv writes, as UTF-8; `out` stays the caller's to close."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out

    def write(self, text: str) -> int:
        return self._out.write(text.encode())


def _text(value: Value, kind: str) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, Decimal):
        return format_short(value) if kind == "number" else format_usd(value)
    return str(value)


def _write_parquet(rows: Iterable[Mapping[str, Value]], columns: Mapping[str, str], out: IO[bytes]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise NoParquet from None
    kinds = {
        "money": pa.decimal128(38, 12), "number": pa.decimal128(38, 18), "text": pa.string(), "count": pa.int64(),
        "instant": pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
    with pq.ParquetWriter(out, schema) as writer:
        for chunk in _chunks(rows):
            values = {name: [_stored(row[name], kind) for row in chunk] for name, kind in columns.items()}
            writer.write_table(pa.table(values, schema=schema))


def _stored(value: Value, kind: str) -> Value:
    """A quantity or price as Parquet's decimals take it; 18 decimals are more than any rate has."""
    return EXACT.quantize(value, _NUMBER_QUANTUM) if kind == "number" and isinstance(value, Decimal) else value


def _chunks(rows: Iterable[Mapping[str, Value]]) -> Iterator[list[Mapping[str, Any]]]:
    source = iter(rows)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk
