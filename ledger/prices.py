"""Which sheet prices a model at an instant: in memory for calls, from the database for pages.

The highest book (contract > override > list > seed) with a published sheet that has begun wins. A sheet ends where
the next of its book begins; a discontinued sheet ends its book, and the books below are looked at again.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from ledger import rating
from ledger.meters import Quantity, disjoint
from ledger.models import PriceSheet, Rate
from ledger.rating import Conditions, Rating, Sheet, SheetError
from providers.models import Model

logger = logging.getLogger(__name__)

PRECEDENCE: tuple[str, ...] = (
    PriceSheet.Book.CONTRACT, PriceSheet.Book.OVERRIDE, PriceSheet.Book.LIST, PriceSheet.Book.SEED
)
RATE_FIELDS = (
    "id", "meter", "amount_usd", "per", "above_tokens", "tier_inclusive", "service_tier", "speed", "region", "variant",
    "weekdays", "window_start", "window_end", "minimum", "quantum", "zero_reason",
)


class _Timeline:
    """The sheets of one model in order of time: sheet i is in force from starts[i] to starts[i + 1]."""

    __slots__ = ("last", "last_start", "sheets", "starts")

    def __init__(self, starts: list[datetime], sheets: list[Sheet | None]) -> None:
        self.starts = starts
        self.sheets = sheets
        self.last_start = starts[-1]
        self.last = sheets[-1]


class PriceBook:
    """All published sheets, immutable. A newer book replaces this one as a whole."""

    __slots__ = ("_by_id", "_timelines")

    def __init__(self, sheets: Iterable[Sheet]) -> None:
        self._by_id: dict[int, Sheet] = {}
        by_model: dict[int, list[Sheet]] = {}
        for sheet in sheets:
            if sheet.id is not None:
                self._by_id[sheet.id] = sheet
            if sheet.model_id is not None and sheet.valid_from is not None:
                by_model.setdefault(sheet.model_id, []).append(sheet)
        self._timelines = {model_id: _timeline(of_model) for model_id, of_model in by_model.items()}

    def __len__(self) -> int:
        return len(self._by_id)

    def sheet_at(self, *, model_id: int, at: datetime) -> Sheet | None:
        """The sheet that prices `model_id` at `at` (aware), or None: no book has one in force."""
        timeline = self._timelines.get(model_id)
        if timeline is None:
            return None
        if at >= timeline.last_start:
            return timeline.last
        index = bisect_right(timeline.starts, at)
        return timeline.sheets[index - 1] if index else None

    def sheet(self, sheet_id: int) -> Sheet | None:
        """The published sheet with this id, whether in force or not: calls are re-rated with the one they name."""
        return self._by_id.get(sheet_id)

    def of_book(self, book: str) -> PriceBook:
        """The sheets of one book alone: what would price a call if no higher book did."""
        return PriceBook(sheet for sheet in self._by_id.values() if sheet.book == book)


def load(*, model_ids: Iterable[int] | None = None) -> PriceBook:
    """Read every published sheet (or those of some models) and its rates: two queries."""
    sheets = PriceSheet.objects.filter(status=PriceSheet.Status.PUBLISHED)
    rates = Rate.objects.filter(sheet__status=PriceSheet.Status.PUBLISHED)
    if model_ids is not None:
        wanted = list(model_ids)
        sheets, rates = sheets.filter(model__in=wanted), rates.filter(sheet__model__in=wanted)
    rows = list(sheets.order_by("id").values_list("id", "model_id", "book", "valid_from", "discontinued"))
    by_sheet: dict[int, list[rating.Rate]] = {}
    for sheet_id, *values in rates.order_by("id").values_list("sheet_id", *RATE_FIELDS):
        by_sheet.setdefault(sheet_id, []).append(rating.Rate(**dict(zip(RATE_FIELDS, values, strict=True))))
    return PriceBook(_sheet(row, by_sheet.get(row[0], [])) for row in rows)


def compiled(sheet: PriceSheet) -> Sheet:
    """A stored sheet, draft or published, as rating takes it. SheetError when its rates do not fit together."""
    rates = [rating.Rate(**values) for values in sheet.rates.order_by("id").values(*RATE_FIELDS)]
    return Sheet(
        id=sheet.pk, model_id=sheet.model_id, book=sheet.book, valid_from=sheet.valid_from, rates=tuple(rates),
        discontinued=sheet.discontinued,
    )


def sheets_in_force(*, at: datetime, model_ids: Iterable[int] | None = None) -> dict[int, int]:
    """{model id: sheet id} for `at`: two index scans in the database, no rates read."""
    begun = PriceSheet.objects.filter(status=PriceSheet.Status.PUBLISHED, valid_from__lte=at)
    if model_ids is not None:
        begun = begun.filter(model__in=list(model_ids))
    newest = begun.order_by("model_id", "book", "-valid_from").distinct("model_id", "book")
    chosen: dict[int, tuple[int, int]] = {}
    for sheet_id, model_id, book, discontinued in newest.values_list("id", "model_id", "book", "discontinued"):
        rank = PRECEDENCE.index(book)
        if not discontinued and rank < chosen.get(model_id, (len(PRECEDENCE), 0))[0]:
            chosen[model_id] = (rank, sheet_id)
    return {model_id: sheet_id for model_id, (_, sheet_id) in chosen.items()}


def current_rates(*, at: datetime, model_ids: Iterable[int] | None = None) -> QuerySet[Rate]:
    """The rates in force at `at`, for pages: ordered by model name, with sheet, model and provider joined."""
    return (
        Rate.objects.filter(sheet__in=sheets_in_force(at=at, model_ids=model_ids).values())
        .select_related("sheet__model__provider")
        .order_by("sheet__model__name", "meter", "above_tokens", "service_tier", "id")
    )


def get_pricing(model: Model, at: datetime) -> Sheet | None:
    """The sheet that prices a catalog model at `at`, from the database. Calls use the PriceBook in memory."""
    return load(model_ids=[model.pk]).sheet_at(model_id=model.pk, at=at)


def calculate_cost(
    model: Model, totals: Mapping[str, Quantity], at: datetime, conditions: Conditions | None = None
) -> Rating:
    """What usage totals (`Usage.totals`) cost on the sheet in force at `at`; a cost of None carries its reason."""
    return rating.rate(
        sheet=get_pricing(model, at),
        meters=disjoint(totals).meters,
        input_total=int(totals.get("input", 0)),
        conditions=conditions or Conditions(at=at),
    )


def _sheet(row: tuple[int, int, str, datetime, bool], rates: list[rating.Rate]) -> Sheet:
    sheet_id, model_id, book, valid_from, discontinued = row
    fields: dict[str, Any] = {
        "id": sheet_id, "model_id": model_id, "book": book, "valid_from": valid_from, "discontinued": discontinued
    }
    try:
        return Sheet(rates=tuple(rates), **fields)
    except SheetError:
        # Publishing refuses such sheets, so someone wrote past it. One bad sheet must not take down the prices of
        # all models, nor let a lower book answer for it: its calls are unpriced until it is replaced.
        logger.exception("price sheet %s cannot be used; calls it prices are unpriced", sheet_id)
        return Sheet(rates=(), **fields)


def _timeline(sheets: list[Sheet]) -> _Timeline:
    by_book: dict[str, list[tuple[datetime, Sheet]]] = {}
    for sheet in sheets:
        if sheet.valid_from is not None:
            by_book.setdefault(sheet.book, []).append((sheet.valid_from, sheet))
    for entries in by_book.values():
        entries.sort(key=lambda entry: entry[0])
    starts = sorted({start for entries in by_book.values() for start, _ in entries})
    return _Timeline(starts, [_in_force(by_book, start) for start in starts])


def _in_force(by_book: Mapping[str, list[tuple[datetime, Sheet]]], at: datetime) -> Sheet | None:
    for book in PRECEDENCE:
        begun = [sheet for start, sheet in by_book.get(book, []) if start <= at]
        if begun and not begun[-1].discontinued:
            return begun[-1]
    return None


def unit_price_usd(rate: Rate) -> Decimal:
    """USD for one unit of a stored rate, for pages that compare rates with different `per`."""
    return rating.Rate(meter=rate.meter, amount_usd=rate.amount_usd, per=rate.per).unit_usd
