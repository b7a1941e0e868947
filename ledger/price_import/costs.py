"""What each change of an import would have done to the last 30 days."""

from __future__ import annotations

from ledger.price_import.plan import Plan
from ledger.price_preview import Preview, preview, usage_by_model


def previews_of(plan: Plan) -> dict[int, Preview]:
    """{id(change): cost of the last 30 days under old and new rates}, for changes of models that were called."""
    changes = plan.changes("changed", "undated", "outlier", "seed", "pending")
    usage = usage_by_model({model.model_id for model, _ in changes if model.model_id is not None}, now=plan.now)
    return {
        id(change): preview(usage[model.model_id], old=change.old_rates, new=change.sheet.rates, at=plan.now)
        for model, change in changes
        if model.model_id in usage and change.sheet is not None
    }
