"""Any CSV, by a mapping of its columns: cloud bills, resellers, spreadsheets.

    day: usage_date            # a date, or an instant with a zone
    model: sku                 # the rest is optional
    models: {"Claude Sonnet": claude-sonnet-4-5}
    meter: unit_kind
    meters: {"input tokens": input, "output tokens": output}
    quantity: amount_used
    quantity_multiplier: 1000  # the column counts thousands
    amount: cost
    amount_per_usd: 1          # 100 where the column is in cents
    currency: currency_code
    key: api_key
    account: project
    kind: line_type            # rows of these kinds are credits, not usage
    credits: [Credit, Tax]
    days: [2026-10-01, 2026-10-31]   # the days the file speaks for; left out: from its first to its last
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import yaml

from ledger.meters import METERS
from ledger.reconcile.export import Export, ExportError, Line, Problem, Row, closed_day, exact_number, instant, shown

_COLUMNS = ("day", "model", "meter", "quantity", "amount", "currency", "key", "account", "kind")
_MOST_DAYS = 400


class ColumnMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of columns, and what their values mean here."""

    day: str
    model: str = ""
    models: dict[str, str] = {}
    meter: str = ""
    meters: dict[str, str] = {}
    quantity: str = ""
    quantity_multiplier: str | int = 1
    amount: str = ""
    amount_per_usd: int = 1
    currency: str = ""
    key: str = ""
    account: str = ""
    kind: str = ""
    credits: tuple[str, ...] = ()
    days: tuple[date, date] | None = None


def parse_mapping(text: str | bytes | Mapping[str, Any]) -> ColumnMapping:
    """A mapping from YAML or JSON. Raises ExportError naming the field."""
    try:
        raw = text if isinstance(text, Mapping) else yaml.safe_load(text)
        found = msgspec.convert(raw, ColumnMapping, strict=True)
    except yaml.YAMLError as error:
        raise ExportError([Problem(0, "mapping", f"neither YAML nor JSON: {str(error)[:200]}")]) from None
    except msgspec.ValidationError as error:
        raise ExportError([Problem(0, "mapping", str(error))]) from None
    unknown = [meter for meter in found.meters.values() if meter not in METERS]
    if unknown:
        raise ExportError([Problem(0, "mapping.meters", f"{unknown[0]!r} is no meter: use {', '.join(METERS)}")])
    if not found.quantity and not found.amount:
        raise ExportError([Problem(0, "mapping", "names neither a quantity nor an amount column")])
    multiplier = exact_number(found.quantity_multiplier)
    if multiplier is None or multiplier <= 0 or found.amount_per_usd <= 0:
        raise ExportError([Problem(0, "mapping", "quantity_multiplier and amount_per_usd are numbers above zero")])
    if found.days and not (0 <= (found.days[1] - found.days[0]).days <= _MOST_DAYS):
        raise ExportError([Problem(0, "mapping.days", f"from {found.days[0]} to {found.days[1]} is no period")])
    return found


def mapped_csv(
    rows: Iterable[Mapping[str, str]], *, header: Iterable[str], mapping: ColumnMapping, now: datetime
) -> Export:
    """A CSV read by `mapping`. Raises ExportError for columns that are not there and for every bad field."""
    known = set(header)
    missing = [name for name in _COLUMNS if getattr(mapping, name) and getattr(mapping, name) not in known]
    if missing:
        raise ExportError(
            [Problem(1, getattr(mapping, name), f"there is no such column (mapped as {name!r})") for name in missing]
        )
    problems: list[Problem] = []
    numbered = [Row(number, fields, problems) for number, fields in enumerate(rows, start=2)]
    lines = [line for row in numbered for line in _lines(row, mapping, now)]
    if problems:
        raise ExportError(problems)
    return Export(format="CSV by mapping", lines=tuple(lines), days=_days(lines, mapping, now))


def _lines(row: Row, mapping: ColumnMapping, now: datetime) -> list[Line]:
    moment = instant(row, mapping.day)
    if moment is None or not closed_day(row, mapping.day, moment.date(), now=now):
        return []
    quantity = row.count(mapping.quantity) if mapping.quantity else None
    amount = None
    if mapping.amount:
        amount = row.usd(mapping.amount, currency=mapping.currency, per_usd=mapping.amount_per_usd)
    if quantity is None and amount is None:
        return []
    model, meter = row.text(mapping.model) if mapping.model else "", row.text(mapping.meter) if mapping.meter else ""
    kind = row.text(mapping.kind) if mapping.kind else ""
    return [
        Line(
            row=row.number, day=moment.date(), model=mapping.models.get(model, model),
            meter=mapping.meters.get(meter, meter if meter in METERS else None) if meter else "",
            key=row.text(mapping.key) if mapping.key else "",
            accounts=tuple(filter(None, [row.text(mapping.account)])) if mapping.account else (),
            quantity=None if quantity is None else quantity * Decimal(mapping.quantity_multiplier), amount_usd=amount,
            is_credit=kind in mapping.credits or (amount is not None and amount < 0),
            label=" ".join(filter(None, (kind, model, meter))),
        )
    ]  # fmt: skip


def _days(lines: list[Line], mapping: ColumnMapping, now: datetime) -> frozenset[date]:
    found = sorted(line.day for line in lines)
    if mapping.days is None and not found:
        return frozenset()
    first, last = mapping.days or (found[0], found[-1])
    if datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1) > now:
        raise ExportError([Problem(0, "mapping.days", f"{last} is not over (UTC): {shown(str(last))} still grows")])
    outside = [line for line in lines if not first <= line.day <= last]
    if outside:
        raise ExportError([Problem(outside[0].row, mapping.day, f"{outside[0].day} is outside {first} to {last}")])
    return frozenset(first + timedelta(days=number) for number in range((last - first).days + 1))
