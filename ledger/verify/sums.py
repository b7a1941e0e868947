"""Checks 1 and 2: what is kept as sums, summed again. Rollups, used and held of limit windows.

For months whose calls were archived and dropped, the sums that were kept of them stand in.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from ledger import ids
from ledger.verify.scope import EVERYTHING, Scope, rows

# A slice holds the calls of one day, so the day is looked up once and not once a call.
_ROLLUPS = """
WITH calls AS (
  SELECT user_id, team_id, key_id, model_id, provider_id, outcome::text AS outcome,
    count(*) AS calls, count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced, sum(input_tokens) AS input,
    sum(cache_read_tokens) AS cache_read, sum(cache_write_tokens) AS cache_write, sum(output_tokens) AS output,
    sum(reasoning_tokens) AS reasoning, coalesce(sum(cost_usd), 0) AS cost, 0::numeric AS adjusted
  FROM ledger_call WHERE id >= %(first)s AND id < %(last)s GROUP BY 1, 2, 3, 4, 5, 6
  UNION ALL
  SELECT c.user_id, c.team_id, c.key_id, c.model_id, c.provider_id, c.outcome,
    0, -count(*) FILTER (WHERE a.settles_unknown), 0, 0, 0, 0, 0, 0, sum(a.delta_usd)
  FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id
  WHERE a.call_id >= %(first)s AND a.call_id < %(last)s GROUP BY 1, 2, 3, 4, 5, 6
), dated AS (
  SELECT (SELECT ledger_id_day(id) FROM ledger_call WHERE id >= %(first)s AND id < %(last)s ORDER BY id LIMIT 1) AS day,
    calls.* FROM calls
  UNION ALL
  SELECT day, user_id, team_id, key_id, model_id, provider_id, outcome::text, calls, unpriced_calls, input_tokens,
    cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd, adjustments_usd
  FROM ledger_archivedrollup WHERE day >= %(first_day)s::date AND day < %(last_day)s::date
), truth AS (
  SELECT day, user_id, team_id, key_id, model_id, provider_id, outcome, sum(calls) AS calls, sum(unpriced) AS unpriced,
    sum(input) AS input, sum(cache_read) AS cache_read, sum(cache_write) AS cache_write, sum(output) AS output,
    sum(reasoning) AS reasoning, sum(cost) AS cost, sum(adjusted) AS adjusted
  FROM dated GROUP BY 1, 2, 3, 4, 5, 6, 7
), kept AS (
  SELECT day, user_id, team_id, key_id, model_id, provider_id, outcome::text AS outcome, sum(calls) AS calls,
    sum(unpriced_calls) AS unpriced, sum(input_tokens) AS input, sum(cache_read_tokens) AS cache_read,
    sum(cache_write_tokens) AS cache_write, sum(output_tokens) AS output, sum(reasoning_tokens) AS reasoning,
    sum(cost_usd) AS cost, sum(adjustments_usd) AS adjusted
  FROM ledger_dailyspend
  WHERE day >= %(first_day)s::date AND day < %(last_day)s::date
  GROUP BY 1, 2, 3, 4, 5, 6, 7
)
SELECT coalesce(t.day, k.day), coalesce(t.user_id, k.user_id), coalesce(t.key_id, k.key_id),
  coalesce(t.model_id, k.model_id), coalesce(t.outcome, k.outcome),
  ROW(k.calls, k.unpriced, k.input, k.cache_read, k.cache_write, k.output, k.reasoning, k.cost, k.adjusted)::text,
  ROW(t.calls, t.unpriced, t.input, t.cache_read, t.cache_write, t.output, t.reasoning, t.cost, t.adjusted)::text
FROM truth t FULL JOIN kept k ON t.day = k.day AND t.user_id = k.user_id AND t.key_id = k.key_id
  AND t.model_id = k.model_id AND t.provider_id = k.provider_id AND t.outcome = k.outcome
  AND coalesce(t.team_id, -1) = coalesce(k.team_id, -1)
WHERE (t.calls, t.unpriced, t.input, t.cache_read, t.cache_write, t.output, t.reasoning, t.cost, t.adjusted)
  IS DISTINCT FROM
      (k.calls, k.unpriced, k.input, k.cache_read, k.cache_write, k.output, k.reasoning, k.cost, k.adjusted)
ORDER BY 1, 2, 3, 4, 5
"""


def rollups(scope: Scope) -> Iterator[str]:
    """Calls and adjustments, summed again, equal the daily rollups in every column. `scope` holds one day's calls."""
    parameters = {
        **scope._asdict(),
        "first_day": _day(scope.first) if scope.first != EVERYTHING.first else "-infinity",
        "last_day": _day(scope.last) if scope.last != EVERYTHING.last else "infinity",
    }
    for day, user, key, model, outcome, kept, truth in rows(_ROLLUPS, parameters):
        yield f"rollup {day} user {user} key {key} model {model} {outcome}: kept {kept}, calls say {truth}"


def _day(bound: UUID) -> str:
    return ids.time_of(bound).date().isoformat()


_USED = """
WITH counted AS (
  SELECT t.id, sum(c.counted_usd) AS usd, sum(c.counted_tokens) AS tokens, count(*) AS requests, 0::numeric AS dropped
  FROM ledger_call c CROSS JOIN unnest(c.windows) AS t(id)
  WHERE c.id >= %(first)s AND c.id < %(last)s AND t.id %% %(parts)s = %(part)s GROUP BY t.id
  UNION ALL
  SELECT t.id, sum(a.counted_delta_usd), sum(a.counted_delta_tokens), 0, 0
  FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id CROSS JOIN unnest(c.windows) AS t(id)
  WHERE a.call_id >= %(first)s AND a.call_id < %(last)s AND t.id %% %(parts)s = %(part)s GROUP BY t.id
  UNION ALL
  SELECT window_id, 0, 0, 0, used FROM ledger_archivedwindow WHERE window_id %% %(parts)s = %(part)s
), truth AS (
  SELECT id, sum(usd) AS usd, sum(tokens) AS tokens, sum(requests) AS requests, sum(dropped) AS dropped
  FROM counted GROUP BY id
),
compared AS (
  SELECT w.id, w.limit_id, w.starts_at, w.used, coalesce(
    CASE l.metric WHEN 'usd' THEN t.usd WHEN 'tokens' THEN t.tokens WHEN 'requests' THEN t.requests END, 0)
      + coalesce(t.dropped, 0) AS truth
  FROM ledger_limitwindow w JOIN ledger_limit l ON l.id = w.limit_id LEFT JOIN truth t ON t.id = w.id
  WHERE w.id %% %(parts)s = %(part)s
    AND (%(starts_at)s::timestamptz IS NULL OR w.starts_at >= %(starts_at)s)
    AND (%(ends_at)s::timestamptz IS NULL OR ledger_period_end(l.period, w.starts_at) <= %(ends_at)s)
)
SELECT id, limit_id, starts_at, used, truth FROM compared WHERE used <> truth ORDER BY id
"""
# A call's id is older than the hold that chose its windows: a request waits and is tried again. No request lives a day.
_SLACK = timedelta(days=1)


def windows_used(scope: Scope) -> Iterator[str]:
    """What each limit window within the scope has used equals what its calls and their adjustments count for."""
    parameters = {
        **scope._asdict(),
        "first": ids.floor(scope.starts_at - _SLACK) if scope.starts_at else scope.first,
        "last": ids.floor(scope.ends_at + _SLACK) if scope.ends_at else scope.last,
    }
    for window, limit, starts_at, used, truth in rows(_USED, parameters):
        yield f"limit {limit} window {window} from {starts_at}: used {used}, calls say {truth}"


_HELD = """
WITH held AS (
  SELECT t.id, sum(ledger_need(l.metric, h.bound_usd, h.bound_tokens)) AS held
  FROM ledger_hold h CROSS JOIN unnest(h.windows) AS t(id) JOIN ledger_limitwindow w ON w.id = t.id
    JOIN ledger_limit l ON l.id = w.limit_id GROUP BY t.id
)
SELECT w.id, w.limit_id, w.held, coalesce(h.held, 0) FROM ledger_limitwindow w LEFT JOIN held h USING (id)
WHERE w.held <> coalesce(h.held, 0) ORDER BY w.id
"""
_LEFT_HOLDS = """
SELECT h.id, w.id, w.state, h.held_at FROM ledger_hold h JOIN ledger_writer w ON w.id = h.writer_id
WHERE w.lease_until < now() - interval '60 seconds' OR h.deadline < now() - interval '10 minutes'
ORDER BY h.id
"""
_ENDED_HOLDS = "SELECT h.id FROM ledger_hold h JOIN ledger_call c ON c.id = h.id ORDER BY h.id"


def holds(scope: Scope) -> Iterator[str]:
    """What each window holds equals its holds; no dead writer's hold is left, and none is long past its deadline."""
    for window, limit, held, truth in rows(_HELD):
        yield f"limit {limit} window {window}: held {held}, holds say {truth}"
    for call, writer, state, held_at in rows(_LEFT_HOLDS):
        yield f"hold {call} of writer {writer} ({state}) from {held_at} was never closed: run manage.py sweep"
    for (call,) in rows(_ENDED_HOLDS):
        yield f"hold {call} is still there though its call has ended"
