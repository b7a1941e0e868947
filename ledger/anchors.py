"""Anchor the chains: a row in the ledger, and a line in the log to be shipped where nobody here can rewrite it."""

from __future__ import annotations

import logging
from typing import Any

import psycopg

log = logging.getLogger("tollbook.ledger.anchors")

INTERVAL_S = 60.0


def take(connection: psycopg.Connection[Any], *, interval_s: float = INTERVAL_S) -> int:
    """Anchor every writer's head that moved, and log them as one `ledger_anchor` line. Returns how many.

    0 when nothing moved, or any process took anchors within `interval_s` seconds. Raises psycopg.Error.
    """
    taken = connection.execute(
        "SELECT taken_at, writer_id, seq, head FROM ledger_take_anchors(%s)", (interval_s,)
    ).fetchall()
    if taken:
        heads = {str(writer): {"seq": seq, "head": bytes(head).hex()} for _, writer, seq, head in taken}
        log.info("ledger_anchor", extra={"taken_at": taken[0][0].isoformat(), "heads": heads})
    return len(taken)
