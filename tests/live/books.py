"""What the ledger says, read by plain SQL, and whether it agrees with itself: added up here once more, on purpose."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connection

from ledger import verify as ledger_verify
from ledger.models import Call, Hold

T = TypeVar("T")

_DIFFERENCES = {
    "rollups differ from calls": """
        SELECT * FROM (
          SELECT ledger_id_day(id) AS day, user_id, team_id, key_id, model_id, provider_id, outcome,
            count(*) AS calls, coalesce(sum(cost_usd), 0) AS cost,
            count(*) FILTER (WHERE cost_usd IS NULL AND NOT EXISTS (
              SELECT FROM ledger_adjustment a WHERE a.call_id = c.id AND a.settles_unknown)) AS unpriced,
            sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cache_read_tokens) AS cache_read,
            sum(cache_write_tokens) AS cache_write, sum(reasoning_tokens) AS reasoning
          FROM ledger_call c GROUP BY 1, 2, 3, 4, 5, 6, 7) c
        FULL JOIN (
          SELECT day, user_id, team_id, key_id, model_id, provider_id, outcome, sum(calls) AS calls,
            sum(unpriced_calls) AS unpriced, sum(cost_usd) AS cost, sum(input_tokens) AS input,
            sum(output_tokens) AS output, sum(cache_read_tokens) AS cache_read,
            sum(cache_write_tokens) AS cache_write, sum(reasoning_tokens) AS reasoning
          FROM ledger_dailyspend GROUP BY 1, 2, 3, 4, 5, 6, 7) r
        ON (c.day, c.user_id, c.key_id, c.model_id, c.provider_id, c.outcome)
           = (r.day, r.user_id, r.key_id, r.model_id, r.provider_id, r.outcome)
           AND c.team_id IS NOT DISTINCT FROM r.team_id
        WHERE (c.calls, c.unpriced, c.cost, c.input, c.output, c.cache_read, c.cache_write, c.reasoning)
           IS DISTINCT FROM
              (r.calls, r.unpriced, r.cost, r.input, r.output, r.cache_read, r.cache_write, r.reasoning)""",
    "rollups differ from adjustments": """
        SELECT * FROM (SELECT coalesce(sum(delta_usd), 0) AS total FROM ledger_adjustment) a
        CROSS JOIN (SELECT coalesce(sum(adjustments_usd), 0) AS total FROM ledger_dailyspend) r
        WHERE a.total <> r.total""",
    "windows differ from calls": """
        SELECT w.id, w.used, coalesce(c.used, 0) FROM ledger_limitwindow w JOIN ledger_limit l ON l.id = w.limit_id
        LEFT JOIN (
          SELECT touched.id, l.metric, sum(CASE l.metric WHEN 'usd' THEN c.counted_usd + coalesce(a.usd, 0)
            WHEN 'tokens' THEN c.counted_tokens + coalesce(a.tokens, 0) WHEN 'requests' THEN 1 ELSE 0 END) AS used
          FROM ledger_call c CROSS JOIN unnest(c.windows) AS touched(id)
            JOIN ledger_limitwindow x ON x.id = touched.id JOIN ledger_limit l ON l.id = x.limit_id
            LEFT JOIN (SELECT call_id, sum(counted_delta_usd) AS usd, sum(counted_delta_tokens) AS tokens
                       FROM ledger_adjustment GROUP BY 1) a ON a.call_id = c.id
          GROUP BY 1, 2) c ON c.id = w.id
        WHERE w.used <> coalesce(c.used, 0)""",
    "windows differ from holds": """
        SELECT w.id, w.held, coalesce(h.held, 0) FROM ledger_limitwindow w
        LEFT JOIN (
          SELECT touched.id, sum(ledger_need(l.metric, h.bound_usd, h.bound_tokens)) AS held
          FROM ledger_hold h CROSS JOIN unnest(h.windows) AS touched(id)
            JOIN ledger_limitwindow x ON x.id = touched.id JOIN ledger_limit l ON l.id = x.limit_id
          GROUP BY 1) h ON h.id = w.id
        WHERE w.held <> coalesce(h.held, 0)""",
    "batches do not cover the calls": """
        SELECT c.writer_id, c.batch_seq, c.n, b.count
        FROM (SELECT writer_id, batch_seq, count(*) AS n FROM ledger_call GROUP BY 1, 2) c
        FULL JOIN ledger_batch b ON b.writer_id = c.writer_id AND b.seq = c.batch_seq
        WHERE c.n IS DISTINCT FROM b.count""",
    "the chain is broken": """
        SELECT b.writer_id, b.seq FROM ledger_batch b
        JOIN LATERAL (SELECT string_agg(ledger_call_bytes(c.*), ''::bytea ORDER BY c.position) AS bytes
                      FROM ledger_call c WHERE c.writer_id = b.writer_id AND c.batch_seq = b.seq) r ON true
        LEFT JOIN ledger_batch p ON p.writer_id = b.writer_id AND p.seq = b.seq - 1
        WHERE b.hash <> ledger_chain_hash(b.previous_hash, r.bytes)
           OR b.previous_hash <> coalesce(p.hash, decode(repeat('00', 32), 'hex'))
           OR (b.seq > 1 AND p.seq IS NULL)""",
}


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, list(values) or None)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def forget_connection() -> None:
    """Before the server goes away: the next query connects anew."""
    connection.close()


def differences() -> dict[str, list[tuple[Any, ...]]]:
    """Everything in which the books contradict themselves; {} when they are right."""
    return {what: found for what, query in _DIFFERENCES.items() if (found := rows(query))}


def verify(*, holds: int = 0) -> None:
    """Calls = rollups = windows, held = holds, the chain is whole; `holds` calls are in flight."""
    assert differences() == {}
    assert [str(found) for found in ledger_verify.verify()] == []
    assert Hold.objects.count() == holds


def calls(**filters: Any) -> list[Call]:
    """The calls that fit, oldest first."""
    return list(Call.objects.filter(**filters).order_by("id"))


def until(look: Callable[[], T], *, what: str, timeout_s: float = 10.0) -> T:
    """What `look` finds, as soon as it finds something. AssertionError when it does not within `timeout_s`."""
    ends_at = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < ends_at, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


def call_of(key_id: int, *, timeout_s: float = 10.0) -> Call:
    """The one call of a key, once it is in the books."""
    until(lambda: calls(key_id=key_id), what="a call row", timeout_s=timeout_s)
    (found,) = calls(key_id=key_id)
    return found
