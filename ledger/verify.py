"""The books prove themselves: everything that was summed is summed again, everything rated is rated again.

All checks read one REPEATABLE READ snapshot, so calls that arrive meanwhile disturb nothing. Each check yields a precise
line for every difference and nothing when there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from django.apps import apps
from django.db import connection, transaction

from ledger import ids, prices
from ledger.meters import from_json
from ledger.prices import PriceBook
from ledger.rating import Conditions, rate

Progress = Callable[[str, int], None]


class Difference(NamedTuple):
    """`check` is its number and name; `line` says where, what the books say and what they should say."""

    check: str
    line: str


class Scope(NamedTuple):
    """Which calls to look at: those with ids in [first, last). Windows and rollups are looked at for the same time."""

    first: UUID
    last: UUID
    since: datetime | None


EVERYTHING = Scope(UUID(int=0), UUID(int=2**128 - 1), None)


def since(at: datetime) -> Scope:
    return Scope(ids.floor(at), EVERYTHING.last, at)


def month(first_day: datetime) -> Scope:
    """The calls of one UTC month: one partition."""
    after = (first_day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return Scope(ids.floor(first_day), ids.floor(after), None)


def verify(*, scope: Scope = EVERYTHING, progress: Progress | None = None) -> list[Difference]:
    """Run every check; an empty list means the books are right."""
    found: list[Difference] = []
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            cursor.execute("SET LOCAL statement_timeout = 0")
        for name, check in CHECKS.items():
            before = len(found)
            found.extend(Difference(name, line) for line in check(scope, progress or _silent))
            (progress or _silent)(f"{name}: {len(found) - before} differences", 0)
    return found


def _silent(text: str, count: int) -> None:
    return None


def _rows(sql: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


# --- 1: calls + adjustments = rollups = windows.used ------------------------------------------------------------

_ROLLUPS = """
WITH calls AS (
  SELECT ledger_id_day(id) AS day, user_id, team_id, key_id, model_id, provider_id, outcome::text AS outcome,
    count(*) AS calls, count(*) FILTER (WHERE cost_usd IS NULL) AS unpriced, sum(input_tokens) AS input,
    sum(cache_read_tokens) AS cache_read, sum(cache_write_tokens) AS cache_write, sum(output_tokens) AS output,
    sum(reasoning_tokens) AS reasoning, coalesce(sum(cost_usd), 0) AS cost, 0::numeric AS adjusted
  FROM ledger_call WHERE id >= %(first)s AND id < %(last)s GROUP BY 1, 2, 3, 4, 5, 6, 7
  UNION ALL
  SELECT ledger_id_day(c.id), c.user_id, c.team_id, c.key_id, c.model_id, c.provider_id, c.outcome,
    0, -count(*) FILTER (WHERE a.settles_unknown), 0, 0, 0, 0, 0, 0, sum(a.delta_usd)
  FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id
  WHERE c.id >= %(first)s AND c.id < %(last)s GROUP BY 1, 2, 3, 4, 5, 6, 7
), truth AS (
  SELECT day, user_id, team_id, key_id, model_id, provider_id, outcome, sum(calls) AS calls, sum(unpriced) AS unpriced,
    sum(input) AS input, sum(cache_read) AS cache_read, sum(cache_write) AS cache_write, sum(output) AS output,
    sum(reasoning) AS reasoning, sum(cost) AS cost, sum(adjusted) AS adjusted
  FROM calls GROUP BY 1, 2, 3, 4, 5, 6, 7
), kept AS (
  SELECT day, user_id, team_id, key_id, model_id, provider_id, outcome::text AS outcome, sum(calls) AS calls,
    sum(unpriced_calls) AS unpriced, sum(input_tokens) AS input, sum(cache_read_tokens) AS cache_read,
    sum(cache_write_tokens) AS cache_write, sum(output_tokens) AS output, sum(reasoning_tokens) AS reasoning,
    sum(cost_usd) AS cost, sum(adjustments_usd) AS adjusted
  FROM ledger_dailyspend
  WHERE day >= ledger_id_day(%(first)s) AND (%(last)s = 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid
    OR day < ledger_id_day(%(last)s))
  GROUP BY 1, 2, 3, 4, 5, 6, 7
)
SELECT coalesce(t.day, k.day), coalesce(t.user_id, k.user_id), coalesce(t.key_id, k.key_id),
  coalesce(t.model_id, k.model_id), coalesce(t.outcome, k.outcome),
  ROW(k.calls, k.unpriced, k.input, k.cache_read, k.cache_write, k.output, k.reasoning, k.cost, k.adjusted)::text,
  ROW(t.calls, t.unpriced, t.input, t.cache_read, t.cache_write, t.output, t.reasoning, t.cost, t.adjusted)::text
FROM truth t FULL JOIN kept k ON t.day = k.day AND t.user_id = k.user_id AND t.key_id = k.key_id
  AND t.model_id = k.model_id AND t.provider_id = k.provider_id AND t.outcome = k.outcome
  AND t.team_id IS NOT DISTINCT FROM k.team_id
WHERE (t.calls, t.unpriced, t.input, t.cache_read, t.cache_write, t.output, t.reasoning, t.cost, t.adjusted)
  IS DISTINCT FROM (k.calls, k.unpriced, k.input, k.cache_read, k.cache_write, k.output, k.reasoning, k.cost, k.adjusted)
ORDER BY 1, 2, 3, 4, 5
"""


def rollups(scope: Scope, progress: Progress) -> Iterator[str]:
    """Calls and adjustments, summed again, equal the daily rollups in every column."""
    for day, user, key, model, outcome, kept, truth in _rows(_ROLLUPS, scope._asdict()):
        yield f"rollup {day} user {user} key {key} model {model} {outcome}: kept {kept}, calls say {truth}"


_USED = """
WITH counted AS (
  SELECT w.id, CASE l.metric WHEN 'usd' THEN c.counted_usd WHEN 'tokens' THEN c.counted_tokens
    WHEN 'requests' THEN 1 ELSE 0 END AS amount
  FROM ledger_call c CROSS JOIN unnest(c.windows) AS t(id) JOIN ledger_limitwindow w ON w.id = t.id
    JOIN ledger_limit l ON l.id = w.limit_id
  WHERE c.id >= %(first)s AND c.id < %(last)s
  UNION ALL
  SELECT w.id, CASE l.metric WHEN 'usd' THEN a.counted_delta_usd WHEN 'tokens' THEN a.counted_delta_tokens ELSE 0 END
  FROM ledger_adjustment a JOIN ledger_call c ON c.id = a.call_id CROSS JOIN unnest(c.windows) AS t(id)
    JOIN ledger_limitwindow w ON w.id = t.id JOIN ledger_limit l ON l.id = w.limit_id
  WHERE c.id >= %(first)s AND c.id < %(last)s
), truth AS (SELECT id, sum(amount) AS used FROM counted GROUP BY id)
SELECT w.id, w.limit_id, w.starts_at, w.used, coalesce(t.used, 0)
FROM ledger_limitwindow w LEFT JOIN truth t USING (id)
WHERE w.used <> coalesce(t.used, 0) AND (%(since)s::timestamptz IS NULL OR w.starts_at >= %(since)s)
ORDER BY w.id
"""


def windows_used(scope: Scope, progress: Progress) -> Iterator[str]:
    """What each limit window has used equals what its calls and their adjustments count for."""
    for window, limit, starts_at, used, truth in _rows(_USED, scope._asdict()):
        yield f"limit {limit} window {window} from {starts_at}: used {used}, calls say {truth}"


# --- 2: holds = windows.held ------------------------------------------------------------------------------------

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
WHERE (w.state <> 'live' AND w.lease_until < now() - interval '60 seconds') OR h.deadline < now() - interval '10 minutes'
ORDER BY h.id
"""


def holds(scope: Scope, progress: Progress) -> Iterator[str]:
    """What each window holds equals its holds; no dead writer's hold is left, and none is long past its deadline."""
    for window, limit, held, truth in _rows(_HELD, {}):
        yield f"limit {limit} window {window}: held {held}, holds say {truth}"
    for call, writer, state, held_at in _rows(_LEFT_HOLDS, {}):
        yield f"hold {call} of writer {writer} ({state}) from {held_at} was never closed: run manage.py sweep"


# --- 3: the chain -----------------------------------------------------------------------------------------------

_CHAIN = """
WITH ordered AS (
  SELECT writer_id, seq, count, previous_hash, hash,
    lag(hash, 1, decode(repeat('00', 32), 'hex')) OVER w AS should_follow, row_number() OVER w AS place
  FROM ledger_batch WINDOW w AS (PARTITION BY writer_id ORDER BY seq)
)
SELECT writer_id, seq, 'does not follow the batch before it' FROM ordered
  WHERE place <> seq OR previous_hash <> should_follow
UNION ALL
SELECT w.id, w.batches, 'is not the last of its writer''s row' FROM ledger_writer w
  WHERE w.batches <> (SELECT count(*) FROM ledger_batch b WHERE b.writer_id = w.id)
    OR w.head <> coalesce((SELECT b.hash FROM ledger_batch b WHERE b.writer_id = w.id ORDER BY seq DESC LIMIT 1),
                          decode(repeat('00', 32), 'hex'))
ORDER BY 1, 2
"""
# Within a part of the books, a batch that the part's edge cuts shows fewer calls than it has: it is left to the whole.
_HASHES = """
WITH rows AS (
  SELECT c.writer_id, c.batch_seq, count(*) AS count,
    string_agg(ledger_call_bytes(c.*), ''::bytea ORDER BY c.position) AS bytes
  FROM ledger_call c WHERE c.id >= %(first)s AND c.id < %(last)s GROUP BY 1, 2
)
SELECT coalesce(r.writer_id, b.writer_id), coalesce(r.batch_seq, b.seq), r.count, b.count
FROM rows r FULL JOIN ledger_batch b ON b.writer_id = r.writer_id AND b.seq = r.batch_seq
WHERE b.seq IS NULL OR r.count > b.count
  OR (r.count = b.count AND b.hash <> ledger_chain_hash(b.previous_hash, r.bytes))
  OR (%(whole)s AND r.count IS DISTINCT FROM b.count)
ORDER BY 1, 2
"""


def chain(scope: Scope, progress: Progress) -> Iterator[str]:
    """Each writer's batches follow each other without a gap, and every hash is that of the rows that are there."""
    for writer, seq, what in _rows(_CHAIN, {}):
        yield f"batch {seq} of writer {writer} {what}"
    for writer, seq, found, recorded in _rows(_HASHES, {**scope._asdict(), "whole": scope == EVERYTHING}):
        if found is None or recorded is None or found != recorded:
            yield f"batch {seq} of writer {writer}: {found or 0} calls found, {recorded or 0} recorded"
        else:
            yield f"batch {seq} of writer {writer}: its hash is not that of its calls"


# --- 4: every cost again ----------------------------------------------------------------------------------------

_COSTS = """
SELECT id, price_sheet_id, meters, input_tokens, service_tier, speed, region, variant, started_at, cost_usd, cost_source,
  usage_source FROM ledger_call WHERE id >= %(first)s AND id < %(last)s ORDER BY id
"""
_CHUNK = 10_000


def costs(scope: Scope, progress: Progress) -> Iterator[str]:
    """Every cost, computed again from its meters and its sheet, is the cost in the row."""
    sheets = prices.load()
    done = 0
    with connection.chunked_cursor() as cursor:
        cursor.execute(_COSTS, scope._asdict())
        while rows := cursor.fetchmany(_CHUNK):
            for row in rows:
                line = _cost_difference(row, sheets)
                if line:
                    yield line
            done += len(rows)
            progress("calls rated again", done)


def _cost_difference(row: tuple[Any, ...], sheets: PriceBook) -> str:
    call, sheet_id, meters, input_total, tier, speed, region, variant, started_at, cost, source, usage_source = row
    if usage_source == "none":
        # Nothing to rate: such a call is unknown, or it used nothing.
        wrong = cost is not None and cost != 0
        return f"call {call}: cost {cost} without usage" if wrong else ""
    sheet = sheets.sheet(sheet_id) if sheet_id is not None else None
    if sheet_id is not None and sheet is None:
        return f"call {call}: its price sheet {sheet_id} is not among the published ones"
    rating = rate(
        sheet=sheet,
        meters=from_json(_decoded(meters)),
        input_total=input_total,
        conditions=Conditions(at=started_at, service_tier=tier, speed=speed, region=region, variant=variant),
    )
    again: Decimal | None = rating.cost_usd
    if again != cost:
        return f"call {call}: cost {cost if cost is not None else 'unknown'}, sheet {sheet_id} gives {again}"
    return ""


def _decoded(meters: Any) -> dict[str, int | str]:
    if isinstance(meters, str):
        decoded: dict[str, int | str] = msgspec.json.decode(meters)
        return decoded
    return dict(meters)


# --- 5: the guards ----------------------------------------------------------------------------------------------

_UNGUARDED = """
WITH guarded(name, kinds) AS (
  SELECT c.relname, 2 FROM pg_class c WHERE c.oid IN (
      SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger_call'::regclass)
  UNION ALL VALUES ('ledger_call', 2), ('ledger_adjustment', 2), ('ledger_batch', 2)
)
SELECT g.name FROM guarded g WHERE (
  SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
  WHERE t.tgrelid = g.name::regclass AND p.proname = 'ledger_refuse_change' AND t.tgenabled = 'A') < g.kinds
ORDER BY 1
"""
REQUIRED_TRIGGERS = (
    ("ledger_adjustment", "adjustment_applies"),
    ("ledger_limit", "limit_measure_fixed"),
)
_CONSTRAINTS = """
SELECT conrelid::regclass::text, conname FROM pg_constraint
WHERE conrelid IN (SELECT oid FROM pg_class WHERE relname LIKE 'ledger\\_%%' AND relkind IN ('r', 'p'))
  AND contype = 'c' AND NOT convalidated
"""


def guards(scope: Scope, progress: Progress) -> Iterator[str]:
    """The triggers and constraints that keep the books are in force on every table and partition."""
    for (table,) in _rows(_UNGUARDED, {}):
        yield f"{table} is not append-only: its triggers are missing or not ENABLE ALWAYS"
    for table, trigger in REQUIRED_TRIGGERS:
        if not _rows(
            "SELECT 1 FROM pg_trigger WHERE tgrelid = %(table)s::regclass AND tgname = %(trigger)s AND tgenabled <> 'D'",
            {"table": table, "trigger": trigger},
        ):
            yield f"{table} lacks its trigger {trigger}"
    for table, name in _rows(_CONSTRAINTS, {}):
        yield f"constraint {name} of {table} is not validated"
    yield from _missing_constraints()
    strays = _rows("SELECT count(*) FROM ledger_call_default", {})[0][0]
    if strays:
        yield f"{strays} calls lie in the default partition: nobody made their month's"


def _missing_constraints() -> Iterator[str]:
    """Every CHECK and unique constraint that the models declare exists in the database."""
    there = {
        (table, name)
        for table, name in _rows(
            "SELECT conrelid::regclass::text, conname::text FROM pg_constraint UNION "
            "SELECT indrelid::regclass::text, indexrelid::regclass::text FROM pg_index",
            {},
        )
    }
    for model in apps.get_app_config("ledger").get_models():
        for constraint in model._meta.constraints:
            if (model._meta.db_table, constraint.name) not in there:
                yield f"{model._meta.db_table} lacks its constraint {constraint.name}"


CHECKS: dict[str, Callable[[Scope, Progress], Iterator[str]]] = {
    "1 rollups": rollups,
    "1 windows": windows_used,
    "2 holds": holds,
    "3 chain": chain,
    "4 costs": costs,
    "5 guards": guards,
}
