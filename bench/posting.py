"""How long it takes to post many adjustments in one transaction, as a reconciliation does, and how that grows.

    python bench/posting.py bench_1000000 [--counts 5000,10000,20000] [--chunk 1000] [--rounds 3]

Corrects calls of one day of a database that bench/load.py made, takes it back, and corrects again with the trigger that
applies them once a row instead of once a statement. Nothing stays.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django
from django.db import connection, transaction

django.setup()

from bench.scratch import use  # noqa: E402
from ledger import ids  # noqa: E402
from ledger.models import Adjustment, Call  # noqa: E402

# What the trigger was: the same work for each row by itself.
_EACH_ROW = """
CREATE FUNCTION bench_apply_adjustment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c ledger_call;
BEGIN
  SELECT * INTO c FROM ledger_call WHERE id = NEW.call_id;
  PERFORM FROM ledger_limitwindow WHERE id = ANY (c.windows) ORDER BY id FOR NO KEY UPDATE;
  UPDATE ledger_limitwindow w SET used = w.used + CASE l.metric
      WHEN 'usd' THEN NEW.counted_delta_usd WHEN 'tokens' THEN NEW.counted_delta_tokens ELSE 0 END
    FROM ledger_limit l WHERE w.id = ANY (c.windows) AND l.id = w.limit_id AND l.metric IN ('usd', 'tokens');
  INSERT INTO ledger_dailyspend AS r (
      day, user_id, team_id, key_id, model_id, provider_id, outcome, slot, adjustments_usd)
    VALUES (ledger_id_day(c.id), c.user_id, c.team_id, c.key_id, c.model_id, c.provider_id, c.outcome, 0, NEW.delta_usd)
    ON CONFLICT ON CONSTRAINT dailyspend_once
      DO UPDATE SET adjustments_usd = r.adjustments_usd + excluded.adjustments_usd;
  RETURN NEW;
END $$;
DROP TRIGGER adjustment_applies ON ledger_adjustment;
CREATE TRIGGER adjustment_applies AFTER INSERT ON ledger_adjustment
  FOR EACH ROW EXECUTE FUNCTION bench_apply_adjustment();
"""
_LOCK_WINDOWS = (
    "SELECT w.id FROM ledger_limitwindow w WHERE w.id IN (SELECT unnest(c.windows) FROM ledger_call c"
    " WHERE c.id = ANY (%s)) ORDER BY w.id FOR NO KEY UPDATE"
)


def posted_s(*, calls: list[UUID], chunk: int, each_row: bool) -> float:
    """Seconds to correct all these calls in one transaction, which is rolled back."""
    rows = [
        Adjustment(
            call_id=call, delta_usd=Decimal("0.000001"), counted_delta_usd=Decimal("0.000001"), reason="reconcile",
            reference="bench",
        )
        for call in calls
    ]  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            if each_row:
                cursor.execute(_EACH_ROW)
            began = time.perf_counter()
            cursor.execute(_LOCK_WINDOWS, [calls])
        for start in range(0, len(rows), chunk):
            Adjustment.objects.bulk_create(rows[start : start + chunk])
        took = time.perf_counter() - began
        transaction.set_rollback(True)
    return took


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--counts", default="5000,10000,20000")
    parser.add_argument("--chunk", type=int, default=1_000, help="Adjustments a statement: reconciliation has 1,000.")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    use(options.database)
    # Days that are over, as those are that are reconciled.
    day = (datetime.now(UTC) - timedelta(days=5)).replace(hour=0, minute=0, second=0, microsecond=0)
    recent = Call.objects.filter(id__gte=ids.floor(day)).order_by("id").values_list("pk", flat=True)
    print("| adjustments | once a row, s | once a statement, s |\n|---:|---:|---:|")
    for count in (int(text) for text in options.counts.split(",")):
        calls = list(recent[:count])
        took = [
            min(posted_s(calls=calls, chunk=options.chunk, each_row=each_row) for _ in range(options.rounds))
            for each_row in (True, False)
        ]
        print(f"| {len(calls):,} | {took[0]:.2f} | {took[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
