"""What a call should have cost, and the adjustment that brings it there.

The target is a fresh rating: delta = fresh - (charge + all earlier adjustments). A second pass therefore finds nothing.
Calls are picked by the model whose price they were given: a provider that served another model than was asked for is
paid that model's price.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection
from msgspec import Struct

from ledger import ids, prices
from ledger.archived_months import why_gone
from ledger.meters import from_json
from ledger.models import PriceSheet
from ledger.money import EXACT, ZERO_USD
from ledger.prices import PriceBook
from ledger.rating import Conditions, Rating, Sheet, rate

PAGE = 500
_BEFORE_ALL = UUID(int=0)
_decoder = msgspec.json.Decoder(Any, float_hook=Decimal)


class RerateError(ValueError):
    """A re-rating that cannot be done as asked. The message says why."""


class Selection(Struct, frozen=True, kw_only=True):
    """The calls priced as `model_id` whose requests began in [start, end). `sheet_id` None: the sheet in force then."""

    model_id: int
    start: datetime
    end: datetime
    sheet_id: int | None = None


class Correction(Struct, frozen=True, kw_only=True):
    """One adjustment to write. `delta_usd` is signed; with `settles_unknown` it makes an unknown cost a known one."""

    call_id: UUID
    user_id: int
    team_id: int | None
    sheet_id: int | None
    delta_usd: Decimal
    counted_delta_usd: Decimal
    settles_unknown: bool


class Page(Struct, frozen=True):
    """Some calls of a selection in order of id. `last` is None when there are no more calls."""

    last: UUID | None
    calls: int = 0
    unpriced: int = 0
    corrections: tuple[Correction, ...] = ()


class Tally(Struct, frozen=True, kw_only=True):
    """What a pass has found so far. `spenders`: "user/team" (ids; no team: empty) -> (calls changed, delta in USD)."""

    calls: int = 0
    corrected: int = 0
    settled: int = 0
    unpriced: int = 0
    delta_usd: Decimal = ZERO_USD
    spenders: Mapping[str, tuple[int, Decimal]] = {}

    def plus(self, page: Page) -> Tally:
        settled = sum(correction.settles_unknown for correction in page.corrections)
        spenders = dict(self.spenders)
        for correction in page.corrections:
            spender = f"{correction.user_id}/{correction.team_id or ''}"
            calls, delta = spenders.get(spender, (0, ZERO_USD))
            spenders[spender] = (calls + 1, EXACT.add(delta, correction.delta_usd))
        return Tally(
            calls=self.calls + page.calls,
            corrected=self.corrected + len(page.corrections) - settled,
            settled=self.settled + settled,
            unpriced=self.unpriced + page.unpriced,
            delta_usd=sum((correction.delta_usd for correction in page.corrections), start=self.delta_usd),
            spenders=spenders,
        )


class _Books(Struct, frozen=True):
    """One call as the books have it now: its row, and the sums of its adjustments."""

    id: UUID
    user_id: int
    team_id: int | None
    sheet_id: int | None
    meters: Any
    input_tokens: int
    service_tier: str
    speed: str
    region: str
    variant: str
    started_at: datetime
    cost_usd: Decimal | None
    usage_source: str
    counted_usd: Decimal
    adjusted_usd: Decimal
    adjusted_counted_usd: Decimal
    is_settled: bool
    late: Any

    @property
    def is_unknown(self) -> bool:
        return self.cost_usd is None and not self.is_settled

    @property
    def total_usd(self) -> Decimal:
        return EXACT.add(self.cost_usd or ZERO_USD, self.adjusted_usd)


# An outcome that came after the sweep is in its adjustment, with the usage that the call's own row lacks.
_CALLS = """
SELECT c.id, c.user_id, c.team_id, c.price_sheet_id, c.meters, c.input_tokens, c.service_tier, c.speed, c.region,
  c.variant, c.started_at, c.cost_usd, c.usage_source, c.counted_usd, coalesce(a.delta, 0), coalesce(a.counted, 0),
  coalesce(a.settled, false), a.late
FROM ledger_call c CROSS JOIN LATERAL (
  SELECT sum(x.delta_usd) AS delta, sum(x.counted_delta_usd) AS counted, bool_or(x.settles_unknown) AS settled,
    (array_agg(x.details) FILTER (WHERE x.reason = 'late_settlement'))[1] AS late
  FROM ledger_adjustment x WHERE x.call_id = c.id) a
WHERE c.id > %(after)s AND c.id >= %(first)s AND c.id < %(last)s
  AND (c.price_sheet_id = ANY (%(sheets)s) OR (c.price_sheet_id IS NULL AND c.model_id = %(model)s))
ORDER BY c.id LIMIT %(most)s
"""


def examine(selection: Selection, *, after: UUID | None = None, most: int = PAGE) -> Page:
    """The next `most` calls of the selection after the id `after`, and the corrections they need. Reads only.

    Raises RerateError when the selection's sheet is no published sheet of its model.
    """
    book = prices.load(model_ids=[selection.model_id])
    if selection.sheet_id is not None and book.sheet(selection.sheet_id) is None:
        raise RerateError(f"There is no published price sheet {selection.sheet_id} of this model.")
    calls = _read(selection, after=after or _BEFORE_ALL, most=most)
    found = [(call, _rated_again(call, selection, book)) for call in calls]
    corrections = (_correction(call, sheet, rating) for call, (sheet, rating) in found)
    return Page(
        last=calls[-1].id if calls else None,
        calls=len(calls),
        unpriced=sum(rating.cost_usd is None for _, (_, rating) in found),
        corrections=tuple(correction for correction in corrections if correction is not None),
    )


def tally(selection: Selection) -> Tally:
    """A dry run: what re-rating the whole selection would change. Writes nothing.

    Raises RerateError: a month of the period is not in the database.
    """
    refuse_dropped(selection)
    found, after = Tally(), None
    while (page := examine(selection, after=after)).last is not None:
        found, after = found.plus(page), page.last
    return found


def refuse_dropped(selection: Selection) -> None:
    """Raise RerateError when calls of the period are in an archive only: "no call changes" would be wrong."""
    gone = why_gone(start=selection.start, end=selection.end)
    if gone is not None:
        raise RerateError(gone)


def _read(selection: Selection, *, after: UUID, most: int) -> list[_Books]:
    values: dict[str, Any] = {
        "after": after,
        "first": ids.floor(selection.start),
        "last": ids.floor(selection.end),
        "sheets": list(PriceSheet.objects.filter(model=selection.model_id).values_list("pk", flat=True)),
        "model": selection.model_id,
        "most": most,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CALLS, values)
        return [_with_late_usage(_Books(*row)) for row in cursor.fetchall()]


def _with_late_usage(call: _Books) -> _Books:
    late = _decoded(call.late) or {}
    if late.get("usage_source", "none") == "none":
        return call
    words = {name: str(late.get(name) or "") for name in ("service_tier", "speed", "region", "variant")}
    return msgspec.structs.replace(
        call,
        meters=late.get("meters") or {},
        input_tokens=int(late.get("input_tokens") or 0),
        usage_source=late["usage_source"],
        sheet_id=late.get("sheet") or call.sheet_id,
        # Rated at the instant the late settlement itself was rated at, which picks windows of the day.
        started_at=datetime.fromisoformat(late["started_at"]) if late.get("started_at") else call.started_at,
        **words,
    )


def _decoded(value: Any) -> Any:
    """JSON of a raw cursor. Numbers with a point were written as text or come from money: read exactly."""
    return _decoder.decode(value) if isinstance(value, str | bytes) else value


def _rated_again(call: _Books, selection: Selection, book: PriceBook) -> tuple[Sheet | None, Rating]:
    sheet = _sheet(call, selection, book)
    if call.usage_source == "none":
        # Nothing to rate: it used nothing, or nobody knows what. A price changes neither.
        return sheet, Rating(None if call.is_unknown else call.total_usd)
    conditions = Conditions(
        at=call.started_at, service_tier=call.service_tier, speed=call.speed, region=call.region, variant=call.variant
    )
    meters = from_json({code: _whole(quantity) for code, quantity in (_decoded(call.meters) or {}).items()})
    return sheet, rate(sheet=sheet, meters=meters, input_total=call.input_tokens, conditions=conditions)


def _whole(quantity: Any) -> int | str:
    return f"{quantity:f}" if isinstance(quantity, Decimal) else quantity


def _sheet(call: _Books, selection: Selection, book: PriceBook) -> Sheet | None:
    """The sheet asked for; else the one in force. A call held at the edge of two keeps the one it was held with."""
    if selection.sheet_id is not None:
        return book.sheet(selection.sheet_id)
    moments = (ids.time_of(call.id), call.started_at)
    found = [book.sheet_at(model_id=selection.model_id, at=moment) for moment in moments]
    own = next((sheet for sheet in found if sheet is not None and sheet.id == call.sheet_id), None)
    return own or found[0]


def _correction(call: _Books, sheet: Sheet | None, rating: Rating) -> Correction | None:
    """None where the books are right already, and where the fresh rating is itself unknown."""
    if rating.cost_usd is None:
        return None
    delta = EXACT.subtract(rating.cost_usd, call.total_usd)
    if not delta and not call.is_unknown:
        return None
    counted = EXACT.add(call.counted_usd, call.adjusted_counted_usd)
    return Correction(
        call_id=call.id,
        user_id=call.user_id,
        team_id=call.team_id,
        sheet_id=None if sheet is None else sheet.id,
        delta_usd=delta,
        counted_delta_usd=EXACT.subtract(rating.cost_usd, counted),
        settles_unknown=call.is_unknown,
    )
