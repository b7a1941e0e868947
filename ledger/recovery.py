"""Close what dead processes left open: fence their writers, then end their holds as abandoned."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg

from ledger.rows import SettleRow
from ledger.writer import Writer

log = logging.getLogger("tollbook.ledger.recovery")

_LEADER = "SELECT pg_try_advisory_lock(hashtext('ledger_sweep'))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('ledger_sweep'))"
_LEFT = """
    SELECT h.id, h.dispatched, h.held_at FROM ledger_hold h JOIN ledger_writer w ON w.id = h.writer_id
    WHERE w.state <> 'live' ORDER BY h.id LIMIT 1000
"""


def sweep(connection: psycopg.Connection[Any], *, writer: Writer, grace_s: float) -> int:
    """Fence writers whose lease ran out `grace_s` ago and settle the holds of all dead writers through `writer`.

    Returns how many holds were closed; 0 also when another process is sweeping. Raises psycopg.Error.
    """
    leader = connection.execute(_LEADER).fetchone()
    if not leader or not leader[0]:
        return 0
    try:
        fenced = [row[0] for row in connection.execute("SELECT ledger_fence(%s)", (grace_s,))]
        if fenced:
            log.warning("writers_fenced", extra={"writers": [str(each) for each in fenced]})
        closed = 0
        while left := connection.execute(_LEFT).fetchall():
            before = closed
            for call_id, dispatched, held_at in left:
                writer.settle(_abandoned(call_id=call_id, dispatched=dispatched, held_at=held_at))
                closed += 1
            if writer.spooled or closed == before:
                break  # the database went away again: the spool will bring them
        if closed:
            log.warning("holds_swept", extra={"holds": closed})
        return closed
    finally:
        connection.execute(_UNLOCK)


def _abandoned(*, call_id: UUID, dispatched: bool, held_at: datetime) -> SettleRow:
    """Not dispatched: nothing was used. Dispatched: nobody knows; the bound counts until somebody does."""
    now = datetime.now(UTC)
    return SettleRow(
        id=call_id,
        outcome="abandoned",
        started_at=held_at,
        finished_at=now,
        duration_ms=max(0, int((now - held_at).total_seconds() * 1000)),
        cost_usd=None if dispatched else Decimal(0),
        cost_source="unknown" if dispatched else "nothing_used",
        unpriced_reason="the process died before the outcome was known" if dispatched else "",
        error_code="abandoned",
        claim="indeterminate" if dispatched else "release",
    )
