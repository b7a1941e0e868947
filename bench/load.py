"""Fill a ledger with N calls as a month or a quarter of traffic would have, by COPY-like inserts inside the server.

    python bench/load.py --calls 1000000 [--days 60] [--database NAME]

The result is a ledger like any other: rollups, windows, batches and hashes agree with the calls, so that
`manage.py verify_ledger` finds no difference. The database is made anew, and stays: benchmarks run on it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django
from django.db import connection

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from msgspec import Struct  # noqa: E402

from bench.scratch import made_database  # noqa: E402
from ledger.models import ApiKey, Limit, PriceSheet, Rate, Team  # noqa: E402
from providers.models import Model, Provider  # noqa: E402

USERS, TEAMS, PROVIDERS, MODELS, WRITERS, LIMITED = 400, 20, 4, 20, 4, 40
BATCH, CHUNK = 50, 250_000
# Who calls what, and how it ends, comes round every so many calls: fewer than a day has in a ledger of 1 M calls over
# 60 days. So the days of every ledger have the same rollup rows, and only the calls behind a row are more. A multiple
# of BATCH * WRITERS, for the writer is part of a rollup row.
PROFILES = 16_000
# USD per 1,000,000: input, output, cache_read; the last three models have a dearer tier above 200,000 tokens.
AMOUNTS = [(Decimal(n) / 4, Decimal(n), Decimal(n) / 40) for n in range(1, MODELS + 1)]
TIERED = 3
CLIFF = 200_000


class Shape(Struct, frozen=True):
    """Where the made rows begin: ids of the first user, key, team, model, provider, sheet and window, and the time."""

    user: int
    key: int
    team: int
    model: int
    provider: int
    sheet: int
    window: int
    starts_at: datetime
    days: int


# One call for every n of a chunk. h: random digits of n, for quantities and times; p: those of its profile.
_CALLS = """
WITH n AS (
  SELECT n, md5('call' || n) AS h, md5('profile' || n %% %(profiles)s) AS p,
    %(epoch_ms)s + (n * %(span_ms)s::numeric / %(calls)s)::bigint AS ms
  FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n
), d AS (
  SELECT n, ms, h, ('x' || substr(h, 1, 6))::bit(24)::int AS a, ('x' || substr(h, 7, 6))::bit(24)::int AS b,
    ('x' || substr(p, 1, 6))::bit(24)::int AS who, ('x' || substr(p, 7, 6))::bit(24)::int AS what,
    ('x' || substr(p, 13, 4))::bit(16)::int AS kind, ('x' || substr(h, 17, 4))::bit(16)::int AS c,
    lpad(to_hex(ms), 12, '0') || '7' || substr(h, 1, 3) || '8' || substr(h, 4, 3) || substr(h, 7, 10) AS hex
  FROM n
), e AS (
  -- The square makes some users busier than others; each has two keys and three models.
  SELECT *, (power(who / 16777216.0, 2) * %(users)s)::int %% %(users)s AS u,
    CASE WHEN kind < 62000 THEN 'ok' WHEN kind < 63500 THEN 'failed' WHEN kind < 64500 THEN 'cancelled'
      WHEN kind < 65000 THEN 'refused' ELSE 'ok' END AS outcome, kind >= 65200 AS unpriced
  FROM d
), f AS (
  SELECT *, (u * 7 + what %% 3) %% %(models)s AS m, what / 3 %% 2 AS k, outcome IN ('failed', 'refused') AS nothing,
    CASE WHEN outcome IN ('failed', 'refused') THEN 0 WHEN c < 100 THEN 250000 ELSE 40 + b %% 6000 END AS input,
    CASE WHEN outcome IN ('failed', 'refused') THEN 0 ELSE 5 + a %% 1500 END AS output
  FROM e
), g AS (
  SELECT *, CASE WHEN b %% 4 = 0 THEN input / 2 ELSE 0 END AS cached FROM f
), priced AS (
  SELECT g.*, CASE WHEN unpriced THEN NULL WHEN nothing THEN 0 ELSE
    ((g.input - cached) * r.input + g.output * r.output + cached * r.cache_read)
      * CASE WHEN m >= %(models)s - %(tiered)s AND g.input > %(cliff)s THEN 2 ELSE 1 END / 1000000 END AS cost
  FROM g JOIN unnest(%(input)s::numeric[], %(output)s::numeric[], %(cache_read)s::numeric[])
    WITH ORDINALITY AS r(input, output, cache_read, place) ON r.place = g.m + 1
)
INSERT INTO ledger_call (
  id, request_id, attempt, writer_id, batch_seq, position, key_id, user_id, team_id, model_id, provider_id, tags,
  surface, requested_name, served_name, upstream_request_id, outcome, http_status, error_code, streamed, started_at,
  finished_at, first_token_ms, duration_ms, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
  reasoning_tokens, meters, raw_usage, usage_source, usage_flags, service_tier, speed, region, variant,
  price_sheet_id, cost_usd, unpriced_reason, cost_source, stated_cost_usd, counted_usd, counted_tokens, windows)
SELECT (hex || '01')::uuid, (hex || '00')::uuid, 1,
  lpad(((n / %(batch)s) %% %(writers)s + 1)::text, 32, '0')::uuid, n / (%(batch)s * %(writers)s) + 1,
  n %% %(batch)s + 1,
  %(key)s + u * 2 + k, %(user)s + u, %(team)s + u %% %(teams)s, %(model)s + m, %(provider)s + m %% %(providers)s, '{}',
  'chat', 'model-' || m, CASE WHEN nothing THEN '' ELSE 'model-' || m || '-2026' END,
  CASE WHEN nothing THEN '' ELSE 'req_' || substr(h, 1, 24) END, outcome,
  CASE outcome WHEN 'failed' THEN 500 WHEN 'refused' THEN 400 ELSE 200 END,
  CASE WHEN nothing THEN 'provider_error' ELSE '' END, b %% 3 = 0, to_timestamp(ms / 1000.0),
  to_timestamp((ms + 300 + a %% 4000) / 1000.0), CASE WHEN nothing THEN NULL ELSE 200 + a %% 90 END, 300 + a %% 4000,
  input, cached, 0, output, 0,
  jsonb_strip_nulls(jsonb_build_object('input', nullif(input - cached, 0), 'output', nullif(output, 0),
                                       'cache_read', nullif(cached, 0))),
  CASE WHEN nothing THEN NULL ELSE jsonb_build_object('prompt_tokens', input, 'completion_tokens', output) END,
  CASE WHEN nothing THEN 'none' WHEN outcome = 'cancelled' THEN 'estimated' ELSE 'reported' END, '{}', '', '', '', '',
  CASE WHEN unpriced THEN NULL ELSE %(sheet)s + m END, cost, CASE WHEN unpriced THEN 'no published price' ELSE '' END,
  CASE WHEN unpriced THEN 'unknown' WHEN nothing THEN 'nothing_used' ELSE 'computed' END, NULL,
  coalesce(cost, 0.01), input + output,
  CASE WHEN u < %(limited)s THEN ARRAY[%(window)s + u * %(days)s + (ms - %(epoch_ms)s) / 86400000] ELSE '{}' END
FROM priced ORDER BY n
"""
_ROLLUPS = """
INSERT INTO ledger_dailyspend (
  day, user_id, team_id, key_id, model_id, provider_id, outcome, slot, calls, unpriced_calls, input_tokens,
  cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, cost_usd)
SELECT (ledger_id_time(id) AT TIME ZONE 'UTC')::date, user_id, team_id, key_id, model_id, provider_id, outcome,
  right(writer_id::text, 1)::int, count(*), count(*) FILTER (WHERE cost_usd IS NULL), sum(input_tokens),
  sum(cache_read_tokens), sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), coalesce(sum(cost_usd), 0)
FROM ledger_call GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""
_WINDOWS = """
UPDATE ledger_limitwindow w SET used = c.used
FROM (SELECT t.id, sum(counted_usd) AS used FROM ledger_call CROSS JOIN unnest(windows) AS t(id) GROUP BY 1) c
WHERE c.id = w.id
"""
# Each batch hashes its rows after the hash before it, so a writer's batches are made one after the other.
_CHAIN = """
DO $$
DECLARE
  b record;
  head bytea := decode(repeat('00', 32), 'hex');
  next bytea;
  made bigint := 0;
BEGIN
  FOR b IN SELECT batch_seq, count(*) AS count, max(finished_at) AS at,
      string_agg(ledger_call_bytes(c.*), ''::bytea ORDER BY position) AS bytes
    FROM ledger_call c WHERE writer_id = '{writer}' GROUP BY batch_seq ORDER BY batch_seq LOOP
    next := ledger_chain_hash(head, b.bytes);
    INSERT INTO ledger_batch (writer_id, seq, count, previous_hash, hash, committed_at)
      VALUES ('{writer}', b.batch_seq, b.count, head, next, b.at);
    head := next;
    made := b.batch_seq;
  END LOOP;
  UPDATE ledger_writer w SET head = next, batches = made, seq = made * 2 WHERE w.id = '{writer}';
END $$
"""


def load(*, calls: int, days: int) -> None:
    """Fill the empty, migrated database that Django is connected to. Prints how long each step took."""
    starts_at = (datetime.now(UTC) - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; SET synchronous_commit = off; SET work_mem = '256MB'")
        cursor.execute("SET maintenance_work_mem = '512MB'; SET jit = off; SET TIME ZONE 'UTC'")
        cursor.execute("SELECT ledger_make_partitions(%s, 8)", (starts_at,))
    shape = _catalog(starts_at=starts_at, days=days)
    indexes = _drop_indexes()
    for first in range(0, calls, CHUNK):
        _step(f"calls to {min(calls, first + CHUNK):,}", _CALLS, _parameters(shape, calls=calls, first=first))
    for name, definition in indexes:
        _step(f"index {name}", definition)
    _step("rollups", _ROLLUPS)
    _step("windows", _WINDOWS)
    for writer in range(1, WRITERS + 1):
        _step(f"chain of writer {writer}", _CHAIN.replace("{writer}", str(UUID(int=writer))))
    _step("vacuum", "VACUUM ANALYZE")


def _step(what: str, sql: str, parameters: dict[str, Any] | None = None) -> None:
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def _parameters(shape: Shape, *, calls: int, first: int) -> dict[str, Any]:
    epoch_ms = int(shape.starts_at.timestamp() * 1000)
    # The last day is not over: calls end now.
    span_ms = int(datetime.now(UTC).timestamp() * 1000) - epoch_ms
    places = {name: getattr(shape, name) for name in ("user", "key", "team", "model", "provider", "sheet", "window")}
    columns = dict(zip(("input", "output", "cache_read"), map(list, zip(*AMOUNTS, strict=True)), strict=True))
    return {
        **places, **columns, "epoch_ms": epoch_ms, "span_ms": min(span_ms, shape.days * 86_400_000 - 1),
        "calls": calls, "first": first, "last": min(calls, first + CHUNK) - 1, "users": USERS, "teams": TEAMS,
        "providers": PROVIDERS, "models": MODELS, "tiered": TIERED, "cliff": CLIFF, "batch": BATCH, "writers": WRITERS,
        "limited": LIMITED, "days": shape.days, "profiles": PROFILES,
    }  # fmt: skip


def _drop_indexes() -> list[tuple[str, str]]:
    """Drop what only slows a load down; returns how to make it again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') "
            "FROM pg_index WHERE indrelid = 'ledger_call'::regclass AND NOT indisprimary"
        )
        found: list[tuple[str, str]] = cursor.fetchall()
        for name, _ in found:
            cursor.execute(f"DROP INDEX {name}")
    return found


def _catalog(*, starts_at: datetime, days: int) -> Shape:
    """Users, keys, models, prices, limits with a window a day, and the writers."""
    teams = Team.objects.bulk_create([Team(name=f"team-{n}") for n in range(TEAMS)])
    users = User.objects.bulk_create([User(username=f"user-{n:03}") for n in range(USERS)])
    keys = ApiKey.objects.bulk_create(
        ApiKey(
            public_id=f"b{n}", secret_sha256=f"{n:064x}", user=users[n // 2], team=teams[n // 2 % TEAMS], name=f"k{n}"
        )
        for n in range(USERS * 2)
    )
    providers = Provider.objects.bulk_create(
        Provider(name=f"provider-{n}", adapter="sandbox") for n in range(PROVIDERS)
    )
    models = Model.objects.bulk_create(
        Model(provider=providers[n % PROVIDERS], name=f"model-{n}", upstream_name=f"model-{n}") for n in range(MODELS)
    )
    sheets = _prices(models, valid_from=starts_at - timedelta(days=1))
    limits = Limit.objects.bulk_create(
        Limit(subject="user", user=user, metric="usd", period="day", amount=1_000_000) for user in users[:LIMITED]
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_limitwindow (limit_id, starts_at) SELECT l, %s::timestamptz + d * interval '1 day' "
            "FROM generate_series(%s, %s) AS l, generate_series(0, %s) AS d ORDER BY l, d",
            (starts_at, limits[0].pk, limits[-1].pk, days - 1),
        )
        cursor.execute("SELECT min(id) FROM ledger_limitwindow")
        window = cursor.fetchone()[0]
        for n in range(1, WRITERS + 1):
            cursor.execute(
                "INSERT INTO ledger_writer (id, slot, host, pid, started_at, lease_until, state, head) VALUES "
                "(%s, %s, 'loader', %s, %s, %s, 'closed', decode(repeat('00', 32), 'hex'))",
                (UUID(int=n), n, n, starts_at, starts_at),
            )
    return Shape(
        user=users[0].pk, key=keys[0].pk, team=teams[0].pk, model=models[0].pk, provider=providers[0].pk,
        sheet=sheets[0].pk, window=window, starts_at=starts_at, days=days,
    )  # fmt: skip


def _prices(models: list[Model], *, valid_from: datetime) -> list[PriceSheet]:
    sheets = PriceSheet.objects.bulk_create(
        PriceSheet(model=model, book="list", valid_from=valid_from, source=PriceSheet.Source.FILE) for model in models
    )
    for n, sheet in enumerate(sheets):
        for meter, amount in zip(("input", "output", "cache_read"), AMOUNTS[n], strict=True):
            Rate.objects.create(sheet=sheet, meter=meter, amount_usd=amount)
            if n >= MODELS - TIERED:
                Rate.objects.create(sheet=sheet, meter=meter, amount_usd=amount * 2, above_tokens=CLIFF)
    PriceSheet.objects.filter(pk__in=[sheet.pk for sheet in sheets]).update(
        status=PriceSheet.Status.PUBLISHED, published_at=valid_from
    )
    return sheets


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--database", help="Its name; bench_<calls> unless given. Dropped first where it is there.")
    options = parser.parse_args()
    name = options.database or f"bench_{options.calls}"
    began = time.monotonic()
    made_database(name)
    load(calls=options.calls, days=options.days)
    print(f"{name}: {options.calls:,} calls in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
