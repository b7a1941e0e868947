"""The rows of calls whose end nobody saw, or whose own row the ledger cannot take: what is certain, and no more."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from ledger.rows import HoldRow, SettleRow

_QUARANTINED = "quarantined"


def never_sent(hold: HoldRow) -> SettleRow:
    """The end of a call that was held but never dispatched: it used nothing and cost nothing."""
    now = datetime.now(UTC)
    return SettleRow(
        id=hold.id,
        outcome="failed",
        started_at=now,
        finished_at=now,
        duration_ms=0,
        cost_usd=Decimal(0),
        cost_source="nothing_used",
        error_code="ledger_unavailable",
        claim="release",
    )


def quarantined(settle: bytes) -> SettleRow | None:
    """The bare row of a call whose encoded settle was rejected; None when that was such a row itself."""
    facts = msgspec.json.decode(settle)
    if facts.get("error_code") == _QUARANTINED:
        return None
    now = datetime.now(UTC)
    return SettleRow(
        id=UUID(facts["id"]),
        outcome="failed",
        started_at=now,
        finished_at=now,
        duration_ms=0,
        cost_usd=None,
        cost_source="unknown",
        unpriced_reason="quarantined: the ledger rejected the row of this call",
        error_code=_QUARANTINED,
    )


def abandoned(*, call_id: UUID, dispatched: bool, held_at: datetime, now: datetime) -> SettleRow:
    """The end of a call whose process died. Both instants are the database's, which all processes share.

    Not dispatched: nothing was used. Dispatched: nobody knows; the bound counts until somebody does.
    """
    return SettleRow(
        id=call_id,
        outcome="abandoned",
        started_at=held_at,
        finished_at=now,
        duration_ms=int((now - held_at).total_seconds() * 1000),
        cost_usd=None if dispatched else Decimal(0),
        cost_source="unknown" if dispatched else "nothing_used",
        unpriced_reason="the process died before the outcome was known" if dispatched else "",
        error_code="abandoned",
        claim="indeterminate" if dispatched else "release",
    )
