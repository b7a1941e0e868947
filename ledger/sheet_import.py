"""Carries sheets of a CSV file into the books: all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from msgspec import Struct

from ledger import prices
from ledger.meters import METERS
from ledger.models import PriceSheet
from ledger.money import format_short
from ledger.price_import.diff import RateChange, rate_changes
from ledger.publishing import PublishError, ensure_sheet
from ledger.rating import Rate, SheetError
from ledger.sheet_csv import CsvSheet, SheetCsvError
from providers.models import Model

# No token has cost more than a thousandth of this: 10,000 USD for 1,000,000 is a price for the wrong unit.
_DEAREST_TOKEN_USD = Decimal("0.01")


class Imported(Struct, frozen=True):
    """How many sheets a file brought, and how many were there already with the same content.

    begun: of those brought and published, how many begin in the past, so that calls may have been made since.
    """

    created: int
    unchanged: int
    begun: int = 0

    def told(self, *, published: bool) -> str:
        """What happened, for whoever carried the file in."""
        text = f"{self.created} sheet(s) {'published' if published else 'as drafts'}, {self.unchanged} there already."
        if not self.begun:
            return text
        return f"{text} {self.begun} begin in the past: calls made since keep their cost until they are re-rated."


def outliers(sheets: Sequence[CsvSheet]) -> list[str]:
    """Rates more than three times, or less than a third, of the price in force when they begin; and absurd ones.

    One line for each, with its row and column: a file in the wrong unit is found here.
    """
    book = prices.load(model_ids={sheet.model_id for sheet in sheets})
    found: list[str] = []
    for sheet in sheets:
        current = book.sheet_at(model_id=sheet.model_id, at=sheet.valid_from)
        before = {change.place: change for change in rate_changes(current.rates if current else (), sheet.rates)}
        for rate, row in zip(sheet.rates, sheet.rows, strict=True):
            found += (f"row {row}, amount_usd: {what}" for what in _odd(rate, before.get(RateChange.place_of(rate))))
    return found


def _odd(rate: Rate, change: RateChange | None) -> Iterator[str]:
    if change is not None and change.is_outlier:
        slip = "; about 1000 times: is `per` right?" if change.is_unit_slip else ""
        yield f"{change}: more than three times apart{slip}"
    elif METERS[rate.meter].family == "tokens" and rate.unit_usd > _DEAREST_TOKEN_USD:
        yield f"{format_short(rate.amount_usd)} USD per {rate.per:,} tokens is no price of a token: is `per` right?"


def carry_in(
    sheets: Sequence[CsvSheet], *, now: datetime, publish: bool = False, reason: str = "",
    confirm_outliers: bool = False, actor: AbstractBaseUser | None = None,
) -> Imported:
    """Write the sheets as drafts, or publish them; a sheet that is there with the same content stays as it is.

    Raises SheetCsvError, and then nothing is written: outliers that nobody confirmed, other prices published for the
    same instant, a sheet to publish for which neither `reason` nor the file says why.
    """
    odd = [] if confirm_outliers else outliers(sheets)
    if odd:
        raise SheetCsvError([*odd, "Confirm the outliers if these prices are meant."])
    models = Model.objects.in_bulk([sheet.model_id for sheet in sheets])
    faults: list[str] = []
    created = unchanged = begun = 0
    with transaction.atomic():
        for sheet in [*sheets, *_endings(sheets)]:
            try:
                with transaction.atomic():
                    stored, is_new = ensure_sheet(
                        model=models[sheet.model_id], book=sheet.book, valid_from=sheet.valid_from, rates=sheet.rates,
                        source=PriceSheet.Source.FILE, now=now, reason=reason or sheet.reason,
                        source_url=sheet.source_url, discontinued=sheet.discontinued, draft=not publish, actor=actor,
                    )  # fmt: skip
            except (SheetError, PublishError) as error:
                faults.append(f"row {sheet.row}, valid_from: {error}")
                continue
            if publish and is_new and not stored.reason.strip():
                faults.append(f"row {sheet.row}, reason: what is published needs a reason, here or for all sheets")
            created, unchanged = created + is_new, unchanged + (not is_new)
            begun += publish and is_new and sheet.valid_from < now
        if faults:
            raise SheetCsvError(list(dict.fromkeys(faults)))
    return Imported(created, unchanged, begun)


def _endings(sheets: Sequence[CsvSheet]) -> list[CsvSheet]:
    """A sheet whose end is not the next one's beginning ends its book there."""
    starts = {(sheet.model, sheet.book, sheet.valid_from) for sheet in sheets}
    return [
        CsvSheet(
            row=sheet.row, model_id=sheet.model_id, model=sheet.model, book=sheet.book, valid_from=sheet.valid_until,
            discontinued=True, reason=sheet.reason,
        )
        for sheet in sheets
        if sheet.valid_until is not None and (sheet.model, sheet.book, sheet.valid_until) not in starts
    ]
