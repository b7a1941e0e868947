"""Prices for people: which sheets are or were in force, and what a given usage costs at each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from django.db.models import Q, QuerySet
from msgspec import Struct

from ledger import prices
from ledger.meters import Quantity, disjoint
from ledger.models import PriceSheet
from ledger.rating import Conditions, Rating, rate
from providers.models import Model


class Compared(Struct, frozen=True):
    """What one model would charge; `rating.cost_usd` None: it has no price for that usage, and the reason is there."""

    model_id: int
    name: str
    provider: str
    sheet_id: int | None
    rating: Rating


def models_named(names: Iterable[str] | None) -> QuerySet[Model]:
    """Models by public name or alias; None: every enabled one. In order of name, providers joined without secrets."""
    models = Model.objects.select_related("provider").defer("provider__credential_secret").order_by("name")
    if names is None:
        return models.filter(enabled=True, provider__enabled=True)
    wanted = list(names)
    return models.filter(Q(name__in=wanted) | Q(aliases__name__in=wanted)).distinct()


def sheets(*, model_ids: Iterable[int], at: datetime | None) -> QuerySet[PriceSheet]:
    """The sheets in force at `at`; with None all that were ever published, newest first. Rates are prefetched."""
    wanted = list(model_ids)
    found = PriceSheet.objects.filter(status=PriceSheet.Status.PUBLISHED, model__in=wanted)
    if at is not None:
        found = found.filter(pk__in=prices.sheets_in_force(at=at, model_ids=wanted).values())
    related = found.select_related("model__provider").defer("model__provider__credential_secret")
    return related.prefetch_related("rates").order_by("model__name", "-valid_from", "book")


def compare(*, models: Iterable[Model], totals: Mapping[str, Quantity], at: datetime) -> list[Compared]:
    """What usage totals (tokens by meter code; input includes cached ones) cost at each model, cheapest first.

    Models without a price for that usage come last, in order of name.
    """
    rows = list(models)
    book = prices.load(model_ids=[model.pk for model in rows])
    meters = disjoint(totals).meters
    found = []
    for model in rows:
        sheet = book.sheet_at(model_id=model.pk, at=at)
        rating = rate(
            sheet=sheet, meters=meters, input_total=int(totals.get("input", 0)), conditions=Conditions(at=at)
        )
        sheet_id = sheet.id if sheet is not None else None
        found.append(Compared(model.pk, model.name, model.provider.name, sheet_id, rating))
    return sorted(found, key=_place)


def _place(compared: Compared) -> tuple[bool, Decimal, str]:
    cost = compared.rating.cost_usd
    return cost is None, cost or Decimal(0), compared.name
