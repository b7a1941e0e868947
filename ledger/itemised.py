"""Calls with what each meter of them cost, read once through and never held in memory as a whole.

The cost of a call is one number in the books. Exports and reconciliations need it by meter: each call is rated again
with the sheet it names, and the lines are used only where they add up to the cost in the row. Where they do not (a row
that verify_ledger would name), the cost stays whole under the meter UNITEMISED, so that no total ever moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction

from ledger import ids, prices
from ledger.meters import Quantity, from_json
from ledger.prices import PriceBook
from ledger.rating import Conditions, Line, Rating, rate

UNITEMISED = ""
_CHUNK = 5_000
_CALLS = """
SELECT id, key_id, user_id, team_id, model_id, provider_id, served_name, meters, input_tokens, service_tier, speed,
  region, variant, started_at, price_sheet_id, cost_usd, unpriced_reason, counted_usd
FROM ledger_call WHERE id >= %s AND id < %s AND (%s::bigint IS NULL OR provider_id = %s) ORDER BY id
"""


class ItemisedCall(msgspec.Struct, frozen=True, kw_only=True):
    """One call. `cost_usd` None: unknown as charged. `lines` add up to it, or are empty.

    `meters` are the quantities as reported, disjoint; `counted_usd` what counts against the limits.
    """

    id: UUID
    key_id: int
    user_id: int
    team_id: int | None
    model_id: int
    provider_id: int
    served_name: str
    meters: dict[str, Quantity]
    input_total: int
    conditions: Conditions
    sheet_id: int | None
    cost_usd: Decimal | None
    unpriced_reason: str
    counted_usd: Decimal
    lines: tuple[Line, ...]

    @property
    def day(self) -> date:
        """The UTC day of the call's request, as the rollups have it."""
        return ids.time_of(self.id).date()


@contextmanager
def one_snapshot() -> Iterator[None]:
    """A transaction in which every query sees the books of one instant (unless one is already open)."""
    nested = connection.in_atomic_block
    with transaction.atomic():
        if not nested:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def calls(*, start: datetime, end: datetime, provider_id: int | None = None) -> Iterator[ItemisedCall]:
    """The calls of [start, end) by the instant of their request, oldest first. Needs an open transaction."""
    sheets = prices.load()
    with connection.chunked_cursor() as cursor:
        cursor.execute(_CALLS, [ids.floor(start), ids.floor(end), provider_id, provider_id])
        while rows := cursor.fetchmany(_CHUNK):
            for row in rows:
                yield _itemised(row, sheets)


def _itemised(row: tuple[Any, ...], sheets: PriceBook) -> ItemisedCall:
    (
        call_id, key_id, user_id, team_id, model_id, provider_id, served_name, stored, input_total, tier, speed,
        region, variant, started_at, sheet_id, cost_usd, unpriced_reason, counted_usd,
    ) = row  # fmt: skip
    meters = from_json(msgspec.json.decode(stored) if isinstance(stored, str) else stored)
    rating = Rating(None)
    at = Conditions(at=started_at, service_tier=tier, speed=speed, region=region, variant=variant)
    if cost_usd is not None and sheet_id is not None:
        rating = rate(sheet=sheets.sheet(sheet_id), meters=meters, input_total=input_total, conditions=at)
    return ItemisedCall(
        id=call_id, key_id=key_id, user_id=user_id, team_id=team_id, model_id=model_id, provider_id=provider_id,
        served_name=served_name, meters=meters, input_total=input_total, conditions=at, sheet_id=sheet_id,
        cost_usd=cost_usd, unpriced_reason=unpriced_reason, counted_usd=counted_usd,
        lines=rating.lines if rating.cost_usd == cost_usd else (),
    )  # fmt: skip
