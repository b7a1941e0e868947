"""Reading calls: pages of them, newest first, and one with the lines its cost is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from django.db.models import Exists, OuterRef, QuerySet

from ledger import ids
from ledger.models import Adjustment, Call, DailySpend, PriceSheet
from ledger.prices import compiled
from ledger.rating import Conditions, Line, rate
from ledger.reports import Named, names_of

# Calls have no index by these, which would cost every insert; the rollups know their first and last day.
_WITHOUT_INDEX = ("team_id", "provider_id")
_NAMED = ("user", "team", "key", "model", "provider")


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls: None means any. `start` is included, `end` is not; both are about the request's instant."""

    users: tuple[int, ...] | None = None
    teams: tuple[int, ...] | None = None
    keys: tuple[int, ...] | None = None
    models: tuple[int, ...] | None = None
    providers: tuple[int, ...] | None = None
    outcome: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    request_id: UUID | None = None
    upstream_request_id: str | None = None
    unpriced: bool = False


class CallDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One call, named and explained.

    total_usd: cost and adjustments, None while unknown. lines: what its meters cost on its sheet, rated now.
    adds_up: whether the lines, rated now, give the cost in the row; None where the row has no sheet or no cost.
    """

    call: Call
    names: dict[str, Named]
    adjustments: tuple[Adjustment, ...]
    total_usd: Decimal | None
    lines: tuple[Line, ...] = ()
    lines_usd: Decimal | None = None
    adds_up: bool | None = None


def calls(wanted: CallFilter) -> QuerySet[Call]:
    """The calls that `wanted` describes, newest first; nothing is read until the caller slices it.

    Instants and request ids become ranges of the UUIDv7 primary key, so that other partitions are never opened.
    """
    query = Call.objects.order_by("-id")
    for column, chosen in (
        ("user_id", wanted.users),
        ("team_id", wanted.teams),
        ("key_id", wanted.keys),
        ("model_id", wanted.models),
        ("provider_id", wanted.providers),
    ):
        if chosen is not None:
            query = query.filter(**{f"{column}__in": chosen})
            if column in _WITHOUT_INDEX:
                query = _within_days_of(query, column=column, chosen=chosen)
    if wanted.outcome is not None:
        query = query.filter(outcome=wanted.outcome)
    if wanted.start is not None:
        query = query.filter(id__gte=ids.floor(wanted.start))
    if wanted.end is not None:
        query = query.filter(id__lt=ids.floor(wanted.end))
    if wanted.request_id is not None:
        first = wanted.request_id.int & ~0xFF
        query = query.filter(id__gte=UUID(int=first), id__lte=UUID(int=first | 0xFF))
    if wanted.upstream_request_id is not None:
        # The exclusion is what lets the partial index answer.
        query = query.filter(upstream_request_id=wanted.upstream_request_id).exclude(upstream_request_id="")
    if wanted.unpriced:
        settled = Adjustment.objects.filter(call_id=OuterRef("id"), settles_unknown=True)
        query = query.filter(~Exists(settled), cost_usd__isnull=True)
    return query


def _within_days_of(query: QuerySet[Call], *, column: str, chosen: Iterable[int]) -> QuerySet[Call]:
    """Only the days from the first to the last on which one of these had a call; nothing where none ever had one.

    Otherwise a page of a provider that is no longer used would read every call since. Days are those of the ids.
    """
    found: list[date] = []
    for each in chosen:
        days = DailySpend.objects.filter(**{column: each}).values_list("day", flat=True)
        # Two looks in an index, its first row and its last.
        found += [*days.order_by("day")[:1], *days.order_by("-day")[:1]]
    if not found:
        return query.none()
    first, last = (datetime.combine(day, time(), UTC) for day in (min(found), max(found)))
    return query.filter(id__gte=ids.floor(first), id__lt=ids.floor(last + timedelta(days=1)))


def named(page: Sequence[Call]) -> list[CallDetail]:
    """The calls of a page with their names and corrected totals, without rating them. A fixed number of queries.

    Names are looked up beside the calls, never joined to them: a join could drop a call from the books.
    """
    names = {name: names_of(name, (getattr(call, f"{name}_id") for call in page)) for name in _NAMED}
    adjustments: dict[UUID, list[Adjustment]] = {call.id: [] for call in page}
    for adjustment in Adjustment.objects.filter(call_id__in=list(adjustments)).order_by("id"):
        adjustments[adjustment.call_id].append(adjustment)
    return [
        CallDetail(
            call=call,
            names={name: names[name][getattr(call, f"{name}_id")] for name in _NAMED},
            adjustments=tuple(adjustments[call.id]),
            total_usd=_total_usd(call, adjustments[call.id]),
        )
        for call in page
    ]


def explained(call: Call) -> CallDetail:
    """One call with its rating lines, computed now from the row and the sheet it names."""
    [detail] = named([call])
    sheet = PriceSheet.objects.filter(pk=call.price_sheet_id or 0).first()
    if sheet is None:
        return detail
    rating = rate(
        sheet=compiled(sheet),
        meters={meter: _quantity(stored) for meter, stored in call.meters.items()},
        input_total=call.input_tokens,
        conditions=Conditions(
            service_tier=call.service_tier,
            speed=call.speed,
            region=call.region,
            variant=call.variant,
            at=call.started_at,
        ),
    )
    return msgspec.structs.replace(
        detail,
        lines=rating.lines,
        lines_usd=rating.cost_usd,
        adds_up=None if call.cost_usd is None else rating.cost_usd == call.cost_usd,
    )


def _quantity(stored: int | float | str) -> int | Decimal:
    """A quantity as JSON keeps it: a whole number, or the text of a fraction."""
    return stored if isinstance(stored, int) else Decimal(str(stored))


def _total_usd(call: Call, adjustments: Iterable[Adjustment]) -> Decimal | None:
    known, total = call.cost_usd is not None, call.cost_usd or Decimal(0)
    for adjustment in adjustments:
        known = known or adjustment.settles_unknown
        total += adjustment.delta_usd
    return total if known else None
