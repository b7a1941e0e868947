"""Differences become adjustments of calls: each UTC day in one transaction, to the last digit, never twice.

Which call carries what, and why, is in docs/decisions/2026-11-23-reconciliation-postings.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, connection, transaction

from ledger import ids
from ledger.corrections import wait_for_turn
from ledger.models import Adjustment
from ledger.money import ZERO_USD, format_short, quantize_usd
from ledger.partitions import bounds
from ledger.reconcile import books
from ledger.reconcile.books import OurCall
from ledger.reconcile.export import Export
from ledger.reconcile.grouping import Group
from ledger.reconcile.matching import POSTABLE, Difference
from ledger.reconcile.reconciling import Comparison, compare, refuse_dropped
from ledger.reconcile.spreading import spread
from providers.models import Provider

_CHUNK = 1_000
_ATTEMPTS = 5


class PostError(ValueError):
    """Differences that cannot be posted. The message says what to do."""


class Posted(msgspec.Struct, frozen=True, kw_only=True):
    """What was written. `left`: differences that no call can carry."""

    adjustments: int = 0
    total_usd: Decimal = ZERO_USD
    left: tuple[Difference, ...] = ()


class _Carrier(msgspec.Struct):
    """What one call takes over: USD by meter."""

    call: OurCall
    parts: dict[str, Decimal]

    @property
    def delta_usd(self) -> Decimal:
        return sum(self.parts.values(), ZERO_USD)


class _Candidates(msgspec.Struct):
    """The calls of one group by how fit they are to carry its difference, each with its weight."""

    unpriced: list[tuple[OurCall, Decimal]]
    blank: list[tuple[OurCall, Decimal]]
    priced: list[tuple[OurCall, Decimal]]
    free: list[tuple[OurCall, Decimal]]


def post(
    *, export: Export, provider: Provider, reference: str, actor: AbstractBaseUser | None, now: datetime
) -> Posted:
    """Write what differs as adjustments. The same export again finds no difference and writes nothing.

    reference: names the export; it stands in every adjustment. Raises PostError before anything is written: a month
    that is not over, an export without amounts; ExportError: a month that is not in the database.
    """
    refuse_unpostable(export, now=now)
    refuse_dropped(export)
    posted = Posted()
    for day in sorted(export.days):
        one_day = msgspec.structs.replace(
            export, days=frozenset({day}), lines=tuple(line for line in export.lines if line.day == day)
        )
        done = _post_patiently(one_day, whole=export, provider=provider, reference=reference, actor=actor)
        posted = Posted(
            adjustments=posted.adjustments + done.adjustments, total_usd=posted.total_usd + done.total_usd,
            left=posted.left + done.left,
        )  # fmt: skip
    return posted


def refuse_unpostable(export: Export, *, now: datetime) -> None:
    """Raise PostError for an export whose differences must not be posted, or not yet."""
    if not export.has_amounts:
        raise PostError("This export says no amounts: compare it, and post from the costs export.")
    open_days = sorted(day for day in export.days if bounds(day)[1] > now)
    if open_days:
        row = min((line.row for line in export.lines if line.day == open_days[0]), default=0)
        raise PostError(
            f"row {row}, day: {open_days[0]:%Y-%m} is not closed: the provider may still correct {open_days[0]}."
            " Post once the month is over."
        )


def _post_patiently(
    export: Export, *, whole: Export, provider: Provider, reference: str, actor: AbstractBaseUser | None
) -> Posted:
    """A day; again when a late settlement made one of its calls known meanwhile: then the difference is another."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return _post_day(export, whole=whole, provider=provider, reference=reference, actor=actor)
        except IntegrityError as error:
            cause: Any = error.__cause__
            if cause.diag.constraint_name != "adjustment_settles_once":
                raise
    return _post_day(export, whole=whole, provider=provider, reference=reference, actor=actor)


def _post_day(
    export: Export, *, whole: Export, provider: Provider, reference: str, actor: AbstractBaseUser | None
) -> Posted:
    day = min(export.days)
    with transaction.atomic():
        wait_for_turn()
        comparison = compare(export=export, provider=provider, whole=whole)
        wanted = {
            each.group: each for each in comparison.report.differences if each.kind in POSTABLE and each.diff_usd
        }
        if not wanted:
            return Posted()
        carriers, left = _share_out(wanted, comparison, provider, day)
        rows = _rows(carriers, reference=_unused(reference, day), actor=actor)
        _lock_windows([row.call_id for row in rows])
        for start in range(0, len(rows), _CHUNK):
            Adjustment.objects.bulk_create(rows[start : start + _CHUNK])
    return Posted(
        adjustments=len(rows), total_usd=sum((row.delta_usd for row in rows), ZERO_USD), left=tuple(left)
    )  # fmt: skip


def _share_out(
    wanted: dict[Group, Difference], comparison: Comparison, provider: Provider, day: date
) -> tuple[list[_Carrier], list[Difference]]:
    """Which call takes how much of which difference, and the differences without any call."""
    candidates = _candidates(wanted, comparison, provider, day)
    carriers: dict[UUID, _Carrier] = {}
    left: list[Difference] = []
    for group, difference in wanted.items():
        amount = quantize_usd(difference.diff_usd)
        chosen = _choose(candidates.get(group), amount)
        if not chosen:
            left.append(difference)
            continue
        for (call, _), share in zip(chosen, spread(amount, [weight for _, weight in chosen]), strict=True):
            carrier = carriers.setdefault(call.id, _Carrier(call, {}))
            carrier.parts[group.meter] = carrier.parts.get(group.meter, ZERO_USD) + share
    return [carriers[call_id] for call_id in sorted(carriers)], left


def _candidates(
    wanted: dict[Group, Difference], comparison: Comparison, provider: Provider, day: date
) -> dict[Group, _Candidates]:
    found = {group: _Candidates([], [], [], []) for group in wanted}
    for call in books.our_calls(provider=provider, first=day, last=day):
        for part in call.parts:
            own = found.get(comparison.group_of(call, part.meter))
            if own is None:
                continue
            if part.cost_usd is None:
                own.unpriced.append((call, part.quantity))
            elif part.cost_usd > 0:
                own.priced.append((call, part.cost_usd))
            else:
                own.free.append((call, part.quantity))
        if call.total_usd is None and not call.parts:
            # Nobody knows what it used, so it may have used any meter of its model; its held bound is the best guess.
            for group in wanted:
                if comparison.group_of(call, group.meter) == group:
                    found[group].blank.append((call, call.counted_usd))
    return found


def _choose(candidates: _Candidates | None, amount: Decimal) -> list[tuple[OurCall, Decimal]]:
    """Calls of unknown cost first, where money is missing; then those that have a cost to correct."""
    if candidates is None:
        return []
    if amount > 0 and (candidates.unpriced or candidates.blank):
        return candidates.unpriced or candidates.blank
    return candidates.priced or candidates.free


def _rows(carriers: Iterable[_Carrier], *, reference: str, actor: AbstractBaseUser | None) -> list[Adjustment]:
    found = []
    for carrier in carriers:
        settles = carrier.call.total_usd is None
        delta = carrier.delta_usd
        if not delta and not settles:
            continue
        details: dict[str, Any] = {"parts": {meter: format_short(part) for meter, part in carrier.parts.items()}}
        found.append(
            Adjustment(
                call_id=carrier.call.id, delta_usd=delta, settles_unknown=settles,
                counted_delta_usd=delta - carrier.call.counted_usd if settles else delta,
                reason=Adjustment.Reason.RECONCILE, note="the provider's export says so", reference=reference,
                details=details, actor_id=None if actor is None else actor.pk,
            )
        )  # fmt: skip
    return found


def _unused(reference: str, day: date) -> str:
    """`reference`, numbered where this export was posted for the day before and the books have moved since."""
    start = datetime.combine(day, time(), UTC)
    first, after = ids.floor(start), ids.floor(start + timedelta(days=1))
    used = set(
        Adjustment.objects.filter(call_id__gte=first, call_id__lt=after, reference__startswith=reference)
        .values_list("reference", flat=True)
        .distinct()
    )
    return reference if not used else f"{reference} #{len(used) + 1}"


def _lock_windows(call_ids: list[UUID]) -> None:
    """Lock the limit windows of all these calls in id order, as the writers do: one by one they could deadlock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT w.id FROM ledger_limitwindow w WHERE w.id IN (SELECT unnest(c.windows) FROM ledger_call c"
            " WHERE c.id = ANY (%s)) ORDER BY w.id FOR NO KEY UPDATE",
            [call_ids],
        )

