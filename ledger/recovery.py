"""Close what dead processes left open: fence their writers, then end their holds as abandoned."""

from __future__ import annotations

import logging
from typing import Any

import psycopg

from ledger.unseen import abandoned
from ledger.writer import Writer

log = logging.getLogger("tollbook.ledger.recovery")

_LEADER = "SELECT pg_try_advisory_lock(hashtext('ledger_sweep'))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('ledger_sweep'))"
_LEFT = """
    SELECT h.id, h.dispatched, h.held_at, clock_timestamp()
    FROM ledger_hold h JOIN ledger_writer w ON w.id = h.writer_id
    WHERE w.state <> 'live' ORDER BY h.id LIMIT 250
"""


def sweep(connection: psycopg.Connection[Any], *, writer: Writer, grace_s: float) -> int:
    """Fence writers whose lease ran out `grace_s` ago and settle the holds of all dead writers through `writer`.

    Returns how many holds were closed; 0 also when another process is sweeping, and when `writer` itself cannot write:
    its queue is no place for the same holds again and again. Raises psycopg.Error.
    """
    if writer.problem() is not None:
        return 0
    leader = connection.execute(_LEADER).fetchone()
    if not leader or not leader[0]:
        return 0
    try:
        fenced = [row[0] for row in connection.execute("SELECT ledger_fence(%s)", (grace_s,))]
        if fenced:
            log.warning("writers_fenced", extra={"writers": [str(each) for each in fenced]})
        closed = 0
        while left := connection.execute(_LEFT).fetchall():
            writer.settle_all(
                abandoned(call_id=call_id, dispatched=dispatched, held_at=held_at, now=now)
                for call_id, dispatched, held_at, now in left
            )
            closed += len(left)
            if writer.spooled or writer.problem() is not None:
                break  # the database went away again: the spool, or the queue, will bring them
        if closed:
            log.warning("holds_swept", extra={"holds": closed})
        return closed
    finally:
        connection.execute(_UNLOCK)
