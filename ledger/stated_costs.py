"""Where a provider states another cost than our price sheet gives: a price that is wrong here, or a meter we miss.

Some providers say in the answer what it cost (OpenRouter, xAI, Perplexity); that is kept beside the computed cost and
never replaces it.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Abs
from django.db.models.lookups import GreaterThan

from ledger import ids
from ledger.models import Call

# Below these a difference is rounding.
ABOVE_USD = Decimal("0.000001")
ABOVE_SHARE = Decimal("0.01")


def differs(*, above_usd: Decimal = ABOVE_USD, above_share: Decimal = ABOVE_SHARE) -> Q:
    """Calls whose stated and computed cost are more than `above_usd` AND more than `above_share` of the stated apart.

    A call with a stated cost and none of ours counts as well.
    """
    distance = Abs(F("stated_cost_usd") - F("cost_usd"))
    far = _greater(distance, above_usd) & _greater(distance, F("stated_cost_usd") * above_share)
    return Q(stated_cost_usd__isnull=False) & (far | Q(cost_usd__isnull=True))


def listed(
    *, start: datetime, end: datetime, above_usd: Decimal = ABOVE_USD, above_share: Decimal = ABOVE_SHARE
) -> QuerySet[Call]:
    """Those calls of [start, end), newest first, with their model. A partial index holds what has a stated cost."""
    calls = Call.objects.filter(id__gte=ids.floor(start), id__lt=ids.floor(end))
    found = calls.filter(differs(above_usd=above_usd, above_share=above_share))
    return found.select_related("model").order_by("-id")


def _greater(left: Abs, right: object) -> Q:
    return Q(GreaterThan(left, right))
