"""Prices that the provider's amounts imply, as drafts for a person to check and publish."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal

import msgspec
from django.contrib.auth.models import AbstractBaseUser

from ledger.models import PriceSheet
from ledger.money import EXACT, LIMIT_USD
from ledger.prices import compiled, sheets_in_force
from ledger.publishing import ensure_sheet
from ledger.rating import Rate
from ledger.reconcile.matching import ROUNDING_USD, Class, Difference, Report
from providers.models import Model, Provider

_MILLION = Decimal(1_000_000)
_DECIMALS = 12


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that explains what the provider charged: USD per 1,000,000 units of `meter` from `day` on.

    old_usd: our base rate then, None where there is none.
    """

    model_id: int
    model: str
    day: date
    meter: str
    amount_usd: Decimal
    old_usd: Decimal | None


def proposals(report: Report, *, provider: Provider) -> list[Proposal]:
    """One proposal per model, meter and new price, from the first day it explains; in order of model, day and meter."""
    models = {model.pk: model for model in Model.objects.filter(provider=provider)}
    found: dict[tuple[int, str], Proposal] = {}
    made: list[Proposal] = []
    for difference in report.differences:
        model = models.get(report.model_ids.get(difference.group.model, 0))
        amount = implied_usd_per_million(difference)
        if model is None or amount is None:
            continue
        day, meter = difference.group.day, difference.group.meter
        before = found.get((model.pk, meter))
        if before is not None and before.amount_usd == amount:
            continue
        old = _base_rate(model, meter, day)
        found[model.pk, meter] = Proposal(
            model_id=model.pk, model=model.name, day=day, meter=meter, amount_usd=amount,
            old_usd=None if old is None else old.unit_usd * _MILLION,
        )  # fmt: skip
        made.append(found[model.pk, meter])
    return sorted(made, key=lambda each: (each.model, each.day, each.meter))


def implied_usd_per_million(difference: Difference) -> Decimal | None:
    """The plainest price that gives the provider's amount for the provider's quantity; None where none can be told."""
    theirs = difference.theirs
    if difference.kind is not Class.PRICE_DIFFERS or theirs is None or not theirs.quantity or not theirs.amount_usd:
        return None
    if theirs.amount_usd < 0 or not difference.group.meter:
        return None
    exact = EXACT.divide(EXACT.multiply(theirs.amount_usd, _MILLION), theirs.quantity)
    if exact >= LIMIT_USD:
        return None
    for decimals in range(_DECIMALS + 1):
        price = EXACT.quantize(exact, Decimal(1).scaleb(-decimals))
        told = EXACT.divide(EXACT.multiply(price, theirs.quantity), _MILLION)
        if price and abs(told - theirs.amount_usd) < min(ROUNDING_USD, theirs.amount_usd / 1000):
            return price
    return None


def make_drafts(found: Iterable[Proposal], *, now: datetime, actor: AbstractBaseUser | None) -> list[PriceSheet]:
    """A draft in the `override` book for each model and day of the proposals; the same ones again make none."""
    by_start: dict[tuple[int, date], list[Proposal]] = {}
    for proposal in found:
        by_start.setdefault((proposal.model_id, proposal.day), []).append(proposal)
    made = []
    for (model_id, day), own in by_start.items():
        model = Model.objects.get(pk=model_id)
        sheet, created = ensure_sheet(
            model=model, book=PriceSheet.Book.OVERRIDE, valid_from=_midnight(day),
            rates=_with(_rates_at(model, day), own), source=PriceSheet.Source.INVOICE, now=now,
            reason="the provider's export implies this price", draft=True, actor=actor,
        )  # fmt: skip
        made += [sheet] if created else []
    return made


def _with(rates: list[Rate], own: list[Proposal]) -> list[Rate]:
    """The rates of a sheet with the plain ones replaced by what was proposed; conditions keep theirs."""
    new = {each.meter: each.amount_usd for each in own}
    kept = [rate for rate in rates if rate.meter not in new or not _is_plain(rate)]
    return [*kept, *(Rate(meter=meter, amount_usd=amount) for meter, amount in new.items())]


def _base_rate(model: Model, meter: str, day: date) -> Rate | None:
    return next((rate for rate in _rates_at(model, day) if rate.meter == meter and _is_plain(rate)), None)


def _rates_at(model: Model, day: date) -> list[Rate]:
    sheet_id = sheets_in_force(at=_midnight(day), model_ids=[model.pk]).get(model.pk)
    return list(compiled(PriceSheet.objects.get(pk=sheet_id)).rates) if sheet_id is not None else []


def _is_plain(rate: Rate) -> bool:
    plain = Rate(meter=rate.meter, amount_usd=rate.amount_usd, per=rate.per, zero_reason=rate.zero_reason, id=rate.id)
    return rate == plain


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
