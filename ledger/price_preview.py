"""What the usage of the last 30 days would cost under other prices: from the daily sums, so at the base rates.

The sums know tokens by kind but not which requests were long, nor tiers, regions or media: a preview for a decision,
not a bill. The exact answer is a dry run of `manage.py rerate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Sum
from msgspec import Struct

from ledger.models import DailySpend
from ledger.money import format_short
from ledger.rating import Conditions, Rate, Sheet, rate

DAYS = 30
_COLUMNS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


class Preview(Struct, frozen=True):
    """USD for the same usage under both prices; None: that price has no rate for some of it."""

    old_usd: Decimal | None
    new_usd: Decimal | None


def usage_by_model(model_ids: Iterable[int], *, now: datetime) -> dict[int, dict[str, int]]:
    """{model id: {meter: quantity}} of the last 30 days, disjoint; models that were not called are left out."""
    today = now.date()
    days = DailySpend.objects.filter(model__in=list(model_ids), day__range=(today - timedelta(days=DAYS - 1), today))
    sums = days.order_by().values("model_id").annotate(**{f"sum_{name}": Sum(name) for name in _COLUMNS})
    found: dict[int, dict[str, int]] = {}
    for model_id, *tokens in sums.values_list("model_id", *(f"sum_{name}" for name in _COLUMNS)):
        total, read, write, output, reasoning = (int(count) for count in tokens)
        meters = {
            "input": max(0, total - read - write), "cache_read": read, "cache_write_5m": write,
            "output": max(0, output - reasoning), "reasoning": reasoning,
        }  # fmt: skip
        found[model_id] = {code: quantity for code, quantity in meters.items() if quantity}
    return found


def preview(
    usage: Mapping[str, int], *, old: Iterable[Rate], new: Iterable[Rate], at: datetime
) -> Preview:
    return Preview(_cost(usage, old, at), _cost(usage, new, at))


def _cost(usage: Mapping[str, int], rates: Iterable[Rate], at: datetime) -> Decimal | None:
    # Fees per request would be counted once for all of them: left out of both.
    plain = tuple(each for each in rates if each.meter != "requests")
    return rate(sheet=Sheet(rates=plain), meters=usage, input_total=0, conditions=Conditions(at=at)).cost_usd


def said(found: Preview) -> str:
    """"last 30 days: 12.5 -> 10 USD"."""
    old, new = ("no price" if usd is None else format_short(usd) for usd in (found.old_usd, found.new_usd))
    return f"last {DAYS} days: {old} -> {new} USD"
