"""Who corrects calls takes turns: each reads what the others wrote before it writes the difference."""

from __future__ import annotations

from django.db import connection


def wait_for_turn() -> None:
    """Wait until nobody else corrects calls; the turn ends with the open transaction.

    Read what is to be corrected after this, not before. Re-rating and reconciliation share this one turn: two that had
    both read the same books would each write the whole difference.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('ledger_correct'))")
