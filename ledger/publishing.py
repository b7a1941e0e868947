"""How a price sheet comes to be: drafted, checked, published, never edited again (ledger/sql/prices_frozen.sql)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import msgspec
from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from ledger import rating
from ledger.models import PriceSheet, Rate
from ledger.money import MoneyError, checked_usd, format_short
from ledger.prices import compiled, sheets_in_force
from ledger.rating import Sheet, SheetError
from providers.models import Model

# Books that are loaded from a dated source say when a price began; a person who says so makes a correction.
_DATED_SOURCES = (PriceSheet.Source.SEED, PriceSheet.Source.GENAI_PRICES, PriceSheet.Source.FILE)


class PublishError(ValueError):
    """A sheet that cannot be published as it is. The message says what to change."""


def publish(
    *,
    sheet: PriceSheet,
    actor: AbstractBaseUser | None,
    reason: str,
    now: datetime,
    correction: bool = False,
) -> PriceSheet:
    """Publish a draft from its `valid_from` on, and return it as stored. `actor` None: a command, not a person.

    `valid_from` must be `now` or later, unless it is a `correction` (calls already made can then be re-rated) or the
    sheet comes from a dated source. Raises PublishError: not a draft, no rates, rates that contradict each other, a
    sheet of that book already published for that instant.
    """
    with transaction.atomic():
        stored = PriceSheet.objects.select_for_update().get(pk=sheet.pk)
        _refuse_unpublishable(stored, now=now, correction=correction)
        stored.status = PriceSheet.Status.PUBLISHED
        stored.content_sha256 = _content_of(stored)
        stored.reason = reason or stored.reason
        stored.is_correction = correction
        stored.published_by_id = None if actor is None else actor.pk
        stored.published_at = now
        stored.save()
    return stored


def draft_from(
    *, model: Model, valid_from: datetime, created_by: AbstractBaseUser | None = None, reason: str = "",
    book: str = PriceSheet.Book.OVERRIDE, at: datetime | None = None,
) -> PriceSheet:
    """A draft in `book` that copies the sheet in force at `at` (default: at `valid_from`); empty when there is none."""
    with transaction.atomic():
        draft = PriceSheet.objects.create(
            model=model, book=book, valid_from=valid_from, source=PriceSheet.Source.ADMIN, reason=reason,
            created_by_id=None if created_by is None else created_by.pk,
        )
        current = sheets_in_force(at=at or valid_from, model_ids=[model.pk]).get(model.pk)
        for rate in Rate.objects.filter(sheet_id=current).order_by("id"):
            rate.pk = None
            rate.sheet = draft
            rate.save(force_insert=True)
    return draft


def ensure_sheet(
    *,
    model: Model,
    book: str,
    valid_from: datetime,
    rates: Iterable[rating.Rate],
    source: str,
    now: datetime,
    reason: str = "",
    source_url: str = "",
    history_unknown: bool = False,
    discontinued: bool = False,
    draft: bool = False,
    actor: AbstractBaseUser | None = None,
) -> tuple[PriceSheet, bool]:
    """(sheet, created): the sheet of that model, book, instant and content; created and published unless `draft`.

    The same arguments twice find the same sheet. Raises SheetError for rates that cannot stand together, PublishError
    when other content is already published for that instant.
    """
    wanted = Sheet(rates=tuple(rates), discontinued=discontinued)
    digest = content_sha256(wanted)
    same = PriceSheet.objects.filter(model=model, book=book, valid_from=valid_from, content_sha256=digest)
    found = same.order_by("-status", "id").first()
    if found is not None and (draft or found.status == PriceSheet.Status.PUBLISHED):
        return found, False
    with transaction.atomic():
        if found is None:
            found = PriceSheet.objects.create(
                model=model, book=book, valid_from=valid_from, source=source, reason=reason, source_url=source_url,
                history_unknown=history_unknown, discontinued=discontinued, content_sha256=digest,
                created_by_id=None if actor is None else actor.pk,
            )
            Rate.objects.bulk_create(_row(found, rate) for rate in wanted.rates)
        if draft:
            return found, True
        return publish(sheet=found, actor=actor, reason=reason, now=now), True


def content_sha256(sheet: Sheet) -> str:
    """The hash of what a sheet says: its rates in any order, and whether it ends its book; not where it applies."""
    rows = sorted(json.dumps(_canonical(rate), sort_keys=True) for rate in sheet.rates)
    text = json.dumps({"discontinued": sheet.discontinued, "rates": rows})
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_unpublishable(sheet: PriceSheet, *, now: datetime, correction: bool) -> None:
    if sheet.status != PriceSheet.Status.DRAFT:
        raise PublishError(f"{sheet} is {sheet.status}: only a draft can be published; make a new one from it.")
    rates = list(sheet.rates.all())
    if sheet.discontinued == bool(rates):
        raise PublishError(
            f"{sheet}: a sheet that ends its book has no rates." if rates else f"{sheet} has no rates: add them first."
        )
    if sheet.valid_from < now and not correction and sheet.source not in _DATED_SOURCES:
        raise PublishError(
            f"{sheet} begins before now ({now:%Y-%m-%d %H:%M} UTC): choose a later start, or publish a correction."
        )
    twin = PriceSheet.objects.filter(
        model_id=sheet.model_id, book=sheet.book, valid_from=sheet.valid_from, status=PriceSheet.Status.PUBLISHED
    )
    if twin.exists():
        raise PublishError(f"{sheet}: that book already has a published sheet from that instant; choose another.")


def _content_of(sheet: PriceSheet) -> str:
    try:
        return content_sha256(compiled(sheet))
    except SheetError as error:
        raise PublishError(f"{sheet}: {error}") from None


_IDENTITY = frozenset({"id"})


def _canonical(rate: rating.Rate) -> dict[str, Any]:
    """A rate as JSON in which equal amounts and times are equal text."""
    values = msgspec.structs.asdict(rate)
    return {name: _plain(value) for name, value in values.items() if name not in _IDENTITY}


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return format_short(value)
    return value.isoformat() if isinstance(value, time) else value


def _row(sheet: PriceSheet, rate: rating.Rate) -> Rate:
    values = msgspec.structs.asdict(rate)
    values.pop("id")
    try:
        values["amount_usd"] = checked_usd(rate.amount_usd)
    except MoneyError as error:
        raise SheetError(f"{rate.meter}: {error}") from None
    return Rate(sheet=sheet, **values)
