"""Price sheets as CSV, for people who keep prices in a spreadsheet: a line for each rate, a sheet for each start.

Reading collects every fault with its row and column and raises once; nothing is written unless the whole file stands.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import msgspec
from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from msgspec import Struct

from ledger import rating
from ledger.meters import METERS
from ledger.models import PriceSheet
from ledger.money import MoneyError, format_short, parse_usd
from ledger.rating import Sheet, SheetError
from providers.models import Alias, Model

# What a sheet says, then what each of its rates says. Every line repeats the first part.
SHEET_COLUMNS = ("model", "book", "valid_from", "valid_until", "source_url", "reason")
RATE_COLUMNS = (
    "meter", "amount_usd", "per", "above_tokens", "tier_inclusive", "service_tier", "speed", "region", "variant",
    "weekdays", "window_start", "window_end", "minimum", "quantum", "zero_reason",
)  # fmt: skip
COLUMNS = (*SHEET_COLUMNS, *RATE_COLUMNS)
REQUIRED = ("model", "valid_from", "meter", "amount_usd", "per")
# In the place of a meter: from that instant on the book has no price for the model.
DISCONTINUED = "discontinued"
MOST_ROWS = 100_000
_WIDTHS = {"service_tier": 32, "speed": 32, "region": 64, "variant": 64, "zero_reason": 200, "reason": 500}
_TEXTS = ("source_url", "reason", "zero_reason", "service_tier", "speed", "region", "variant")
# What a spreadsheet takes for the beginning of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "'")
_MOST_TOKENS = 2**31 - 1
_is_url = URLValidator(schemes=("http", "https"))


class SheetCsvError(ValueError):
    """The file cannot be taken. `faults` holds one line for each fault: its row, its column, what to do."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class CsvSheet(Struct, frozen=True, kw_only=True):
    """One sheet of a file. `row` is where it begins (the header is row 1); `rows` where each of its rates is."""

    row: int
    model_id: int
    model: str
    book: str
    valid_from: datetime
    valid_until: datetime | None = None
    source_url: str = ""
    reason: str = ""
    discontinued: bool = False
    rates: tuple[rating.Rate, ...] = ()
    rows: tuple[int, ...] = ()


class _Line(Struct, frozen=True):
    """A line whose fields could be read. `rate` None: it discontinues its book."""

    row: int
    sheet: CsvSheet
    rate: rating.Rate | None


# --- writing ----------------------------------------------------------------------------------------------


def dump(sheets: Iterable[PriceSheet]) -> str:
    """The sheets as CSV text, in the order given; `read` takes it back."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for sheet in sheets:
        head = {
            "model": sheet.model.name, "book": sheet.book, "valid_from": _moment_text(sheet.valid_from),
            "source_url": sheet.source_url, "reason": sheet.reason,
        }  # fmt: skip
        if sheet.discontinued:
            writer.writerow(_safe({**head, "meter": DISCONTINUED}))
        for rate in sheet.rates.all():
            writer.writerow(_safe(head | {name: _text(getattr(rate, name)) for name in RATE_COLUMNS}))
    return text.getvalue()


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format_short(value)
    return value.isoformat() if isinstance(value, time) else str(value)


def _moment_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _safe(row: Mapping[str, str]) -> dict[str, str]:
    """Texts that a spreadsheet would run begin with an apostrophe; reading takes it off again."""
    return {
        name: f"'{value}" if name in _TEXTS and value.startswith(_FORMULA_STARTS) else value
        for name, value in row.items()
    }


# --- reading ----------------------------------------------------------------------------------------------


def read(text: str) -> list[CsvSheet]:
    """The sheets of a file, in order of model, book and start. Raises SheetCsvError with every fault of the file."""
    faults: list[str] = []
    rows = _rows(text)
    models = _models(row.get("model", "").strip() for _, row in rows)
    lines = [line for number, row in rows if (line := _line(number, row, models, faults)) is not None]
    sheets = list(_gathered(lines, faults))
    _refuse_overlaps(sheets, faults)
    if faults:
        raise SheetCsvError(faults)
    return sheets


def _rows(text: str) -> list[tuple[int, dict[str, str]]]:
    if "\0" in text:
        raise SheetCsvError(["the file holds a NUL character"])
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        found = [(reader.line_num, values) for values in reader if any(value.strip() for value in values)]
    except csv.Error as error:
        raise SheetCsvError([f"row {reader.line_num}: not readable as CSV: {error}"]) from None
    if not found:
        raise SheetCsvError(["the file has no rates"])
    if len(found) > MOST_ROWS:
        raise SheetCsvError([f"the file has more than {MOST_ROWS:,} rows: split it"])
    wrong = [
        f"row {number}: {len(values)} fields under {len(header)} columns"
        for number, values in found
        if len(values) != len(header)
    ]
    if wrong:
        raise SheetCsvError(wrong)
    return [(number, dict(zip(header, values, strict=True))) for number, values in found]


def _check_header(header: list[str]) -> None:
    faults = []
    for name in header:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            faults.append(f"row 1: unknown column {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
    faults += [f"row 1: the column {name!r} is missing" for name in REQUIRED if name not in header]
    faults += [f"row 1: the column {name!r} is there twice" for name in sorted(set(header)) if header.count(name) > 1]
    if faults:
        raise SheetCsvError(faults)


def _models(names: Iterable[str]) -> dict[str, tuple[int, str]]:
    """{public name or alias: (id, public name)}."""
    wanted = set(names)
    found = {name: (pk, name) for pk, name in Model.objects.filter(name__in=wanted).values_list("pk", "name")}
    aliases = Alias.objects.filter(name__in=wanted).values_list("name", "model_id", "model__name")
    return {alias: (pk, name) for alias, pk, name in aliases} | found


class _Fields:
    """Reads the fields of one row; what is wrong goes to `faults` under its row and column."""

    def __init__(self, row: int, values: Mapping[str, str], faults: list[str]) -> None:
        self.row = row
        self.values = values
        self.faults = faults
        self.is_wrong = False

    def refuse(self, column: str, why: str) -> None:
        self.is_wrong = True
        self.faults.append(f"row {self.row}, {column}: {why}")

    def text(self, column: str) -> str:
        value = self.values.get(column, "").strip()
        if column in _TEXTS and value.startswith("'") and value[1:].startswith(_FORMULA_STARTS):
            value = value[1:]
        if len(value) > _WIDTHS.get(column, 500):
            self.refuse(column, f"longer than {_WIDTHS.get(column, 500)} characters")
        return value

    def moment(self, column: str) -> datetime | None:
        value = self.text(column)
        try:
            moment = datetime.fromisoformat(value) if value else None
        except ValueError:
            self.refuse(column, f"{value!r} is not a date such as 2026-11-30 or 2026-11-30T12:00:00Z")
            return None
        return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    def clock(self, column: str) -> time | None:
        value = self.text(column)
        try:
            return time.fromisoformat(value) if value else None
        except ValueError:
            self.refuse(column, f"{value!r} is not a time such as 16:30")
            return None

    def amount(self, column: str, *, default: str = "") -> Decimal:
        value = self.text(column) or default
        try:
            amount = parse_usd(value)
        except (MoneyError, InvalidOperation) as error:
            self.refuse(column, str(error))
            return Decimal(0)
        if amount < 0:
            self.refuse(column, f"{value!r} is negative")
        return amount

    def step(self, column: str) -> Decimal:
        quantity = self.amount(column, default="0")
        if not rating.is_step(quantity):
            self.refuse(column, f"{self.text(column)!r} is not below 10^12 with at most 6 decimals")
        return quantity

    def count(self, column: str, *, default: int, most: int = _MOST_TOKENS) -> int:
        value = self.text(column) or str(default)
        if not (value.isascii() and value.isdigit() and len(value) < 12 and int(value) <= most):
            self.refuse(column, f"{value!r} is not a whole number from 0 to {most}")
            return default
        return int(value)

    def choice(self, column: str, allowed: Iterable[str], *, default: str = "") -> str:
        value = self.text(column) or default
        known = sorted(allowed)
        if value not in known:
            near = difflib.get_close_matches(value, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(known[:8])}" + "..." * (len(known) > 8)
            self.refuse(column, f"unknown {column} {value!r}: {hint}")
        return value


def _line(
    number: int, row: Mapping[str, str], models: Mapping[str, tuple[int, str]], faults: list[str]
) -> _Line | None:
    fields = _Fields(number, row, faults)
    sheet = _sheet(fields, models)
    meter = fields.choice("meter", (*METERS, DISCONTINUED))
    rate = None if meter == DISCONTINUED else _rate(fields, meter)
    if fields.is_wrong or sheet is None:
        return None
    return _Line(number, sheet, rate)


def _sheet(fields: _Fields, models: Mapping[str, tuple[int, str]]) -> CsvSheet | None:
    name = fields.text("model")
    if name not in models:
        fields.refuse("model", f"there is no model {name!r}")
    book = fields.choice("book", PriceSheet.Book.values, default=PriceSheet.Book.OVERRIDE)
    start, end = fields.moment("valid_from"), fields.moment("valid_until")
    if start is None and not fields.text("valid_from"):
        fields.refuse("valid_from", "empty: say from when the price holds")
    if start is not None and end is not None and end <= start:
        fields.refuse("valid_until", "it is not after valid_from")
    url = fields.text("source_url")
    if url:
        try:
            _is_url(url)
        except ValidationError:
            fields.refuse("source_url", f"{url[:80]!r} is not an http address")
    reason = fields.text("reason")
    if fields.is_wrong or start is None:
        return None
    model_id, public = models[name]
    return CsvSheet(
        row=fields.row, model_id=model_id, model=public, book=book, valid_from=start, valid_until=end, source_url=url,
        reason=reason,
    )  # fmt: skip


def _rate(fields: _Fields, meter: str) -> rating.Rate | None:
    inclusive = fields.choice("tier_inclusive", ("true", "false"), default="false")
    values: dict[str, Any] = {
        "meter": meter,
        "amount_usd": fields.amount("amount_usd"),
        "per": fields.count("per", default=0),
        "above_tokens": fields.count("above_tokens", default=0),
        "tier_inclusive": inclusive == "true",
        **{name: fields.text(name) for name in ("service_tier", "speed", "region", "variant", "zero_reason")},
        "weekdays": fields.count("weekdays", default=rating.EVERY_DAY),
        "window_start": fields.clock("window_start"),
        "window_end": fields.clock("window_end"),
        "minimum": fields.step("minimum"),
        "quantum": fields.step("quantum"),
    }
    if fields.is_wrong:
        return None
    if not values["amount_usd"] and not values["zero_reason"]:
        fields.refuse("zero_reason", "a zero rate needs a reason (free because ...)")
    try:
        [rate] = Sheet(rates=(rating.Rate(**values),)).rates
    except SheetError as error:
        fields.refuse("per" if "per " in str(error) else "meter", str(error))
        return None
    return None if fields.is_wrong else rate


# --- sheets -----------------------------------------------------------------------------------------------

_Key = tuple[str, str, datetime]


def _key(sheet: CsvSheet) -> _Key:
    return sheet.model, sheet.book, sheet.valid_from


def _gathered(lines: Iterable[_Line], faults: list[str]) -> Iterator[CsvSheet]:
    groups: dict[_Key, list[_Line]] = {}
    for line in lines:
        groups.setdefault(_key(line.sheet), []).append(line)
    for _, group in sorted(groups.items()):
        first = group[0].sheet
        for line in group[1:]:
            for name in ("valid_until", "source_url", "reason"):
                if getattr(line.sheet, name) != getattr(first, name):
                    faults.append(f"row {line.row}, {name}: differs from row {first.row}, which is of the same sheet")
        priced = [line for line in group if line.rate is not None]
        ended = [line for line in group if line.rate is None]
        if ended and (priced or len(ended) > 1):
            faults.append(f"row {ended[0].row}, meter: a sheet that is discontinued has no other rows")
        _refuse_duplicates(priced, faults)
        yield msgspec.structs.replace(
            first,
            discontinued=bool(ended),
            rates=tuple(cast(rating.Rate, line.rate) for line in priced),
            rows=tuple(line.row for line in priced),
        )


def _refuse_duplicates(lines: list[_Line], faults: list[str]) -> None:
    for place, line in enumerate(lines):
        for other in lines[:place]:
            if other.rate is None or line.rate is None or other.rate.meter != line.rate.meter:
                continue
            try:
                Sheet(rates=(other.rate, line.rate))
            except SheetError:
                twin = f"{line.rate.meter!r} is there under the same conditions in row {other.row}"
                faults.append(f"row {line.row}, meter: {twin}")
                break


def _refuse_overlaps(sheets: list[CsvSheet], faults: list[str]) -> None:
    for sheet, after in itertools.pairwise(sheets):
        same_book = (sheet.model, sheet.book) == (after.model, after.book)
        if same_book and sheet.valid_until is not None and sheet.valid_until > after.valid_from:
            faults.append(
                f"row {sheet.row}, valid_until: {_moment_text(sheet.valid_until)} overlaps the sheet of row"
                f" {after.row}, which begins on {_moment_text(after.valid_from)}"
            )
