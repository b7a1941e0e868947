"""The comparison itself: both sides summed at one grain, folded, matched."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import msgspec

from ledger import itemised
from ledger.archived_months import why_gone
from ledger.money import EXACT
from ledger.reconcile import books
from ledger.reconcile.books import OurCall
from ledger.reconcile.export import Export, ExportError, Line, Problem
from ledger.reconcile.grouping import Folds, Grain, Group, Names, folds, grain_of
from ledger.reconcile.matching import Report, Sum, match
from providers.models import Provider

_MOST_ROWS = 20


class Comparison(msgspec.Struct, frozen=True):
    """A report, and how it was grouped: whoever posts it must group the calls the same way."""

    report: Report
    grain: Grain
    folds: Folds
    names: dict[int, Names]

    def group_of(self, call: OurCall, meter: str) -> Group:
        """Where one meter of a call was counted."""
        group = self.grain.ours(
            day=call.day, served=call.served_name, names=self.names[call.model_id], meter=meter, key_id=call.key_id
        )
        return self.folds.of(group)


def reconcile(*, export: Export, provider: Provider) -> Report:
    """Compare an export with our calls of the same days and provider, adjustments included. Writes nothing.

    Raises ExportError: a month of these days is not in the database.
    """
    refuse_dropped(export)
    with itemised.one_snapshot():
        return compare(export=export, provider=provider).report


def refuse_dropped(export: Export) -> None:
    """Raise ExportError when our calls of these days are in an archive only: they would all be "missing here"."""
    first, last = (datetime.combine(day, time(), UTC) for day in (min(export.days), max(export.days)))
    gone = why_gone(start=first, end=last + timedelta(days=1))
    if gone is not None:
        raise ExportError([Problem(0, "", gone)])


def compare(*, export: Export, provider: Provider, whole: Export | None = None) -> Comparison:
    """As `reconcile`, within the caller's transaction, with the grouping.

    whole: the export of which `export` is some days. It says how to group them: a day without a line of its own is
    compared by the meters, models and keys that the other days tell apart.
    """
    whole = whole or export
    grain = grain_of(whole, keys=books.key_words(line.key for line in whole.lines))
    names = books.names_of_models(provider)
    odd = [line for line in export.lines if _is_odd(line, grain)]
    left = _theirs([line for line in export.lines if not _is_odd(line, grain)], grain)
    right, seen = _ours(export, provider, grain, names)
    folded = folds(left, right)
    known = _model_ids(names, seen)
    report = match(
        theirs=_joined(left, folded), ours=_joined(right, folded), known_models=known, odd=odd,
        has_amounts=whole.has_amounts or not whole.has_quantities,
    )  # fmt: skip
    unique = {name: next(iter(ids)) for name, ids in known.items() if len(ids) == 1}
    return Comparison(msgspec.structs.replace(report, model_ids=unique), grain, folded, names)


def _model_ids(names: dict[int, Names], seen: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    """{name: ids of our models it may mean}; a name the provider answered with means the models it answered for."""
    found: dict[str, set[int]] = {}
    for model_id, each in names.items():
        for name in (each.upstream, *each.others):
            found.setdefault(name, set()).add(model_id)
    for served, model_id in seen:
        found.setdefault(served, set()).add(model_id)
    return found


def _is_odd(line: Line, grain: Grain) -> bool:
    """Credits; meters we do not know; a line that says less than the others: it would be compared with too much."""
    if line.is_credit or line.meter is None:
        return True
    if grain.by_meter and not line.meter:
        return True
    return bool(grain.models) and not line.model and not line.meter


def _theirs(lines: Iterable[Line], grain: Grain) -> dict[Group, Sum]:
    found: dict[Group, Sum] = {}
    for line in lines:
        group = grain.theirs(day=line.day, model=line.model, meter=line.meter or "", key=line.key)
        each = Sum(quantity=line.quantity, amount_usd=line.amount_usd, rows=(line.row,), label=line.label)
        found[group] = _plus(found[group], each) if group in found else each
    return found


def _ours(
    export: Export, provider: Provider, grain: Grain, names: dict[int, Names]
) -> tuple[dict[Group, Sum], set[tuple[str, int]]]:
    """Our sums, and the (model name, our model) pairs of the provider's answers."""
    found: dict[Group, _Running] = {}
    seen: set[tuple[str, int]] = set()
    for call in books.our_calls(provider=provider, first=min(export.days), last=max(export.days)):
        if call.day not in export.days:
            continue
        if call.served_name:
            seen.add((call.served_name, call.model_id))
        for part in call.parts:
            group = grain.ours(
                day=call.day, served=call.served_name, names=names[call.model_id], meter=part.meter, key_id=call.key_id
            )
            found.setdefault(group, _Running()).add(part)
    return {group: each.sum(counts=grain.by_meter) for group, each in found.items()}, seen


class _Running:
    """A sum of ours while it grows."""

    __slots__ = ("amount_usd", "calls", "quantity", "unknown_calls")

    def __init__(self) -> None:
        self.quantity = self.amount_usd = Decimal(0)
        self.calls = self.unknown_calls = 0

    def add(self, part: books.Part) -> None:
        self.quantity = EXACT.add(self.quantity, part.quantity)
        self.amount_usd = EXACT.add(self.amount_usd, part.cost_usd or Decimal(0))
        self.calls += 1
        self.unknown_calls += part.cost_usd is None

    def sum(self, *, counts: bool) -> Sum:
        """Quantities of different meters do not add up: without meters there is no quantity."""
        return Sum(
            quantity=self.quantity if counts else None, amount_usd=self.amount_usd, calls=self.calls,
            unknown_calls=self.unknown_calls,
        )  # fmt: skip


def _joined(sums: dict[Group, Sum], folded: Folds) -> dict[Group, Sum]:
    found: dict[Group, Sum] = {}
    for group, each in sums.items():
        target = folded.of(group)
        found[target] = _plus(found[target], each) if target in found else each
    return found


def _plus(one: Sum, other: Sum) -> Sum:
    return Sum(
        quantity=_added(one.quantity, other.quantity), amount_usd=_added(one.amount_usd, other.amount_usd),
        calls=one.calls + other.calls, unknown_calls=one.unknown_calls + other.unknown_calls,
        rows=(one.rows + other.rows)[:_MOST_ROWS], label=one.label or other.label,
    )  # fmt: skip


def _added(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    if one is None or other is None:
        return one if other is None else other
    return EXACT.add(one, other)
