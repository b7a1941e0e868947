"""Carries a plan out, in one transaction: models, aliases, sheets; drafts where a person has to look."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction

from ledger.models import PriceSheet
from ledger.price_import import matching
from ledger.price_import.diff import CONFIRMED, DRAFTED, PUBLISHED_AT_ONCE, Change, Kind
from ledger.price_import.plan import ModelPlan, Plan
from ledger.publishing import ensure_sheet
from providers.models import Alias, Model

REASONS = {
    "new": "list prices",
    "changed": "list prices changed",
    "undated": "list prices changed without a date: check from when",
    "outlier": "list prices moved by more than three times: check before publishing",
    "seed": "list prices that differ from the seed prices",
}


def apply(plan: Plan, *, actor: AbstractBaseUser | None = None, confirm_outliers: bool = False) -> None:
    """Write what `plan` says. Published at once: first list prices and dated changes; the rest become drafts.

    Outliers are left out unless `confirm_outliers`; then they become drafts, too.
    """
    drafted = DRAFTED | (CONFIRMED if confirm_outliers else frozenset())
    with transaction.atomic():
        for provider in plan.providers:
            for model_plan in provider.models:
                model = _model(model_plan)
                Alias.objects.bulk_create(Alias(name=name, model=model) for name in model_plan.aliases)
                for change in model_plan.changes:
                    _write(
                        change, drafted=drafted, model=model, source_url=provider.source_url, now=plan.now, actor=actor
                    )


def _model(plan: ModelPlan) -> Model:
    if plan.model_id is not None:
        return Model.objects.get(pk=plan.model_id)
    if plan.found is None:
        raise ValueError(f"the plan would create {plan.name!r} out of nothing")
    return Model.objects.create(
        provider_id=plan.provider_id,
        name=plan.name,
        upstream_name=plan.found.id,
        display_name=plan.found.name[:200],
        deprecated=plan.found.deprecated,
        capabilities=matching.capabilities(plan.found),
        context_window=plan.found.context_window or None,
    )


def _write(
    change: Change, *, drafted: frozenset[Kind], model: Model, source_url: str, now: datetime,
    actor: AbstractBaseUser | None,
) -> None:
    if change.kind == "removed":
        Model.objects.filter(pk=model.pk, deprecated=False).update(deprecated=True)
    elif change.sheet is not None and change.kind in PUBLISHED_AT_ONCE | drafted:
        ensure_sheet(
            model=model,
            book=PriceSheet.Book.LIST,
            valid_from=change.valid_from,
            rates=change.sheet.rates,
            source=PriceSheet.Source.GENAI_PRICES,
            now=now,
            reason=REASONS[change.kind],
            source_url=source_url,
            history_unknown=change.sheet.history_unknown,
            draft=change.kind in drafted,
            actor=actor,
        )
