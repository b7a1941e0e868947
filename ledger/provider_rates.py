"""How the calls of the last hour went, by provider: what real traffic says beside the health checks."""

from __future__ import annotations

from datetime import datetime

from django.db import connection
from msgspec import Struct

from ledger import ids

# Read newest first along the primary key: a busy hour costs no more than a quiet one.
MOST_CALLS = 5_000
# What says something about the provider: not calls that clients broke off or asked wrongly, nor checks of our own.
_QUERY = """
    WITH recent AS MATERIALIZED (
      SELECT provider_id, outcome, http_status, duration_ms, first_token_ms, surface
      FROM ledger_call WHERE id >= %s ORDER BY id DESC LIMIT %s
    )
    SELECT provider_id, count(*), count(*) FILTER (WHERE outcome = 'ok'),
      percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE outcome = 'ok'),
      percentile_cont(0.5) WITHIN GROUP (ORDER BY first_token_ms) FILTER (WHERE outcome = 'ok')
    FROM recent
    WHERE surface <> 'health'
      AND (outcome IN ('ok', 'failed') OR outcome = 'refused' AND http_status IN (401, 403, 429))
    GROUP BY provider_id
"""


class Recent(Struct, frozen=True):
    """Calls that succeeded or that the provider failed. The medians are of those that succeeded."""

    calls: int = 0
    ok: int = 0
    p50_ms: float | None = None
    p50_first_token_ms: float | None = None

    @property
    def success_rate(self) -> float | None:
        """From 0 to 1; None without calls."""
        return self.ok / self.calls if self.calls else None


def recent(*, since: datetime) -> dict[int, Recent]:
    """By provider id, of the newest MOST_CALLS calls since then. A provider without calls is not in it."""
    with connection.cursor() as cursor:
        cursor.execute(_QUERY, [ids.floor(since), MOST_CALLS])
        return {row[0]: Recent(*row[1:]) for row in cursor.fetchall()}
