"""What a provider's export becomes, and the numbers, days and rows every reader takes apart the same way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

_MOST_PROBLEMS = 20
_MOST_DIGITS = 60
_DECIMAL = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?", re.ASCII)
_DAY = timedelta(days=1)


class Problem(msgspec.Struct, frozen=True):
    """What is wrong in one place: `row` counts the file's rows from 1 (0: the file as a whole)."""

    row: int
    field: str
    message: str

    def __str__(self) -> str:
        place = ", ".join(filter(None, (f"row {self.row}" if self.row else "", self.field)))
        return f"{place}: {self.message}" if place else self.message


class ExportError(ValueError):
    """An export that cannot be read; nothing of it was used. `problems` says where, the message the first of them."""

    def __init__(self, problems: list[Problem], *, file: str = "") -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems[:_MOST_PROBLEMS]]
        if len(problems) > _MOST_PROBLEMS:
            lines.append(f"... and {len(problems) - _MOST_PROBLEMS} more")
        super().__init__((f"{file}: " if file else "") + "; ".join(lines))


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing the provider says of one UTC day.

    model '': not said. meter: a code of our vocabulary, '' when not said, None when said and not known to us (`label`
    has the words). quantity and amount_usd: None when not said. account: the provider's project, workspace or key.
    """

    row: int
    day: date
    model: str = ""
    meter: str | None = ""
    key: str = ""
    accounts: tuple[str, ...] = ()
    quantity: Decimal | None = None
    amount_usd: Decimal | None = None
    is_credit: bool = False
    label: str = ""


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """One or more files, read. `days`: every UTC day they speak for, also those without a line."""

    format: str
    lines: tuple[Line, ...]
    days: frozenset[date]

    @property
    def has_amounts(self) -> bool:
        return any(line.amount_usd is not None for line in self.lines)

    @property
    def has_quantities(self) -> bool:
        return any(line.quantity is not None for line in self.lines)


class Row:
    """One row of a file: fields read strictly, what is wrong collected for one message about the whole file."""

    def __init__(self, number: int, fields: Mapping[str, Any], problems: list[Problem]) -> None:
        self.number = number
        self._fields = fields
        self._problems = problems

    def refuse(self, field: str, message: str) -> None:
        self._problems.append(Problem(self.number, field, message))

    def says(self, field: str) -> bool:
        """Whether the field is there and neither null nor empty."""
        return self.raw(field) not in (None, "")

    def text(self, field: str) -> str:
        """The text of a field; '' when it is absent, null or empty."""
        value = self.raw(field)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.refuse(field, f"{value!r} is not a text")
            return ""
        if "\x00" in value:
            self.refuse(field, "holds a NUL character")
            return ""
        return value.strip()

    def number_or_none(self, field: str) -> Decimal | None:
        """An exact number, or None when the field is absent, null or empty. Never by way of a float."""
        value = self.raw(field)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        number = exact_number(value)
        if number is None:
            self.refuse(field, f"{shown(value)} is not a number")
        return number

    def count(self, field: str) -> Decimal | None:
        """A quantity: zero or more. "59200.0" is 59200."""
        number = self.number_or_none(field)
        if number is not None and number < 0:
            self.refuse(field, f"{number} is negative")
            return None
        return number

    def usd(self, field: str, *, currency: str, per_usd: int = 1) -> Decimal | None:
        """An amount in USD, from a field in units of which `per_usd` make one USD."""
        number = self.number_or_none(field)
        if number is None:
            return None
        unit = self.text(currency).upper() or "USD"
        if unit != "USD":
            self.refuse(currency, f"{unit!r} is not USD: the ledger is in USD; convert the export first")
            return None
        if abs(number) >= Decimal(10) ** 12:
            self.refuse(field, f"{number} is beyond the ledger's range")
            return None
        return number / per_usd

    def raw(self, field: str) -> Any:
        """The value as the file has it; `a.b` is b within a."""
        value: Any = self._fields
        for part in (field,) if field in self._fields else field.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


def exact_number(value: object) -> Decimal | None:
    """The Decimal that a text or a JSON number says, or None. Floats do not come in here: see `parse_json`."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        return None
    text = str(value).strip()
    if isinstance(value, str) and not _DECIMAL.fullmatch(text):
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    if not number.is_finite() or len(number.as_tuple().digits) > _MOST_DIGITS or abs(number.adjusted()) > _MOST_DIGITS:
        return None
    return number


def parse_json(data: bytes) -> Any:
    """JSON with every number exact. Raises ExportError for what is no JSON, NaN, a key twice, too deep nesting."""
    try:
        return json.loads(
            data, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_once
        )
    except (ValueError, RecursionError, InvalidOperation) as error:
        raise ExportError([Problem(0, "", f"not JSON: {str(error)[:200]}")]) from None


def bucket_days(row: Row, *, start: str, end: str, now: datetime) -> list[date]:
    """The one UTC day a bucket lies in; [] (and a problem) where it spans more, is not over, or cannot be read."""
    begins, ends = instant(row, start), instant(row, end)
    if begins is None or ends is None:
        return []
    if not begins < ends or (ends - timedelta(microseconds=1)).date() != begins.date():
        row.refuse(end, f"{begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} is not within one UTC day: export days")
        return []
    return closed_day(row, start, begins.date(), now=now)


def closed_day(row: Row, field: str, day: date, *, now: datetime) -> list[date]:
    """[day], or [] and a problem while the day is not over: its figures still grow."""
    if datetime(day.year, day.month, day.day, tzinfo=UTC) + _DAY > now:
        row.refuse(field, f"{day} is not over (UTC): export up to the day before")
        return []
    return [day]


def instant(row: Row, field: str) -> datetime | None:
    """Unix seconds, or ISO 8601 with a zone (a plain day is its midnight, UTC)."""
    value = row.raw(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return _from_seconds(row, field, value)
    text = row.text(field) if value is None or isinstance(value, str) else ""
    seconds = exact_number(text)
    if seconds is not None and seconds == seconds.to_integral_value():
        return _from_seconds(row, field, int(seconds))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        row.refuse(field, f"{shown(value)} is neither Unix seconds nor a date")
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def buckets(pages: Any, *, read: Callable[[Row, dict[str, Any]], None], problems: list[Problem]) -> Iterator[Row]:
    """Walk the buckets of one page or a list of pages; `read` gets each result's row. Yields each bucket as a row."""
    number = 0
    listed = pages if isinstance(pages, list) else [pages]
    for page in listed:
        for bucket in page.get("data") or []:
            if not isinstance(bucket, dict):
                problems.append(Problem(number + 1, "data", f"{shown(bucket)} is not a bucket"))
                continue
            yield Row(number + 1, bucket, problems)
            results = bucket.get("results") or bucket.get("result") or []
            if not isinstance(results, list):
                problems.append(Problem(number + 1, "results", f"{shown(results)} is not a list"))
                continue
            for result in results:
                number += 1
                if isinstance(result, dict):
                    read(Row(number, result, problems), result)
                else:
                    problems.append(Problem(number, "results", f"{shown(result)} is not an object"))
    if listed and listed[-1].get("has_more"):
        problems.append(Problem(0, "has_more", "the last page says there is more: fetch every page into the file"))


def shown(value: object) -> str:
    """A value for a message, short."""
    text = repr(str(value)) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _from_seconds(row: Row, field: str, seconds: int) -> datetime | None:
    if not 0 <= seconds < 253_402_300_800:
        row.refuse(field, f"{seconds} is no time in Unix seconds")
        return None
    return datetime.fromtimestamp(seconds, tz=UTC)


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return found
