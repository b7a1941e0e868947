"""The ledger without HTTP: hold + settle pairs a second through one writer, with one hot limit and with spread limits.

    python bench/ledger_alone.py [--threads 200] [--seconds 5] [--rounds 3] [--no-hash]

Runs on a scratch database beside the configured one, dropped at the end. Beside the pairs a second it prints the
processor time of a pair, this process and its server processes together: other work on the machine slows the pairs, but
does not add to that. It is 0 where the server's processes are not on this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django
from django.db import connection

django.setup()

from bench.scratch import drop, scratch_database  # noqa: E402
from ledger.ids import call_id, new_request_id  # noqa: E402
from ledger.models import ApiKey, Limit, LimitWindow  # noqa: E402
from ledger.rows import HoldRow, SettleRow  # noqa: E402
from ledger.spool import Spool  # noqa: E402
from ledger.sql import read  # noqa: E402
from ledger.writer import Writer  # noqa: E402
from providers.models import Model, Provider  # noqa: E402

SPREAD = 200


def run(*, writer: Writer, ids: dict[str, int], limits: list[int], threads: int, seconds: float) -> tuple[float, float]:
    """(pairs a second, p99 of a hold in milliseconds)."""
    stop = time.monotonic() + seconds
    counts = [0] * threads
    waits: list[list[float]] = [[] for _ in range(threads)]

    def work(n: int) -> None:
        limit = (limits[n % len(limits)],)
        while time.monotonic() < stop:
            request = new_request_id()
            call = call_id(request_id=request, attempt=1)
            began = time.monotonic()
            verdict = writer.hold(
                HoldRow(
                    id=call, request_id=request, attempt=1, key=ids["key"], user=ids["user"], team=None,
                    model=ids["model"], provider=ids["provider"], sheet=None, surface="chat", name="m", streamed=False,
                    tags={}, usd=Decimal("0.01"), tokens=1500, limits=limit, deadline_s=60,
                )
            )
            waits[n].append(time.monotonic() - began)
            assert verdict.refusal is None, verdict
            now = datetime.now(UTC)
            writer.settle(
                SettleRow(
                    id=call, outcome="ok", started_at=now, finished_at=now, duration_ms=1, cost_usd=Decimal("0.0075"),
                    cost_source="computed", served_name="m-2026", upstream_request_id="req_1", http_status=200,
                    input_tokens=1000, output_tokens=300, meters={"input": 1000, "output": 300},
                    raw_usage={"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300},
                    usage_source="reported",
                )
            )
            counts[n] += 1

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    began = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.monotonic() - began
    everyone = sorted(w for each in waits for w in each)
    return sum(counts) / took, everyone[int(len(everyone) * 0.99)] * 1000


def processor_s() -> float:
    """Processor seconds so far of this process and of the server processes that serve it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        servers = [Path(f"/proc/{pid}/stat") for (pid,) in cursor.fetchall()]
    # After the command in brackets: utime is the 12th field, stime the 13th.
    fields = [stat.read_text().rpartition(")")[2].split() for stat in servers if stat.exists()]
    ticks = sum(int(each[11]) + int(each[12]) for each in fields)
    return ticks / os.sysconf("SC_CLK_TCK") + time.process_time()


def hash_rows(hashed: bool) -> None:
    """In the scratch database: let the chain cover the rows again, or nothing at all."""
    with connection.cursor() as cursor:
        if hashed:
            cursor.execute(read("batches"))
        else:
            cursor.execute(
                "CREATE OR REPLACE FUNCTION ledger_call_bytes(c ledger_call) RETURNS bytea LANGUAGE sql STABLE "
                "PARALLEL SAFE AS $$ SELECT ''::bytea $$;"
                "CREATE OR REPLACE FUNCTION ledger_chain_hash(p_previous bytea, p_rows bytea) RETURNS bytea "
                "LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT p_previous $$"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-hash", action="store_true", help="Also with rows that are not hashed, turn by turn.")
    options = parser.parse_args()
    from django.contrib.auth.models import User
    from django.db.models import Sum

    home = connection.settings_dict["NAME"]
    name = scratch_database()
    writer = Writer(spool=Spool(folder=Path("/tmp/bench-spool")), lease_s=15, timeout_s=30)
    try:
        user = User.objects.create(username="bench")
        key = ApiKey.objects.create(public_id="bench", secret_sha256="0" * 64, user=user)
        provider = Provider.objects.create(name="bench", adapter="sandbox")
        model = Model.objects.create(provider=provider, name="m", upstream_name="m")
        ids = {"key": key.pk, "user": user.pk, "model": model.pk, "provider": provider.pk}
        hot = Limit.objects.create(subject="everyone", metric="usd", period="day", amount=10**9)
        users = User.objects.bulk_create([User(username=f"u{n}") for n in range(SPREAD)])
        spread = [
            Limit.objects.create(subject="user", user=u, metric="usd", period="day", amount=10**9).pk for u in users
        ]
        writer.start()
        run(writer=writer, ids=ids, limits=[hot.pk], threads=options.threads, seconds=1)
        for _ in range(options.rounds):
            for hashed in (True, False) if options.no_hash else (True,):
                hash_rows(hashed)
                for label, limits in (("hot", [hot.pk]), ("spread", spread)):
                    before_s = processor_s()
                    pairs, p99 = run(
                        writer=writer, ids=ids, limits=limits, threads=options.threads, seconds=options.seconds
                    )
                    pair_us = (processor_s() - before_s) / (pairs * options.seconds) * 1e6
                    note = "" if hashed else "   rows not hashed"
                    print(
                        f"{label:7} {pairs:8.0f} pairs/s   hold p99 {p99:6.1f} ms   {pair_us:6.1f} us a pair{note}",
                        flush=True,
                    )
        assert LimitWindow.objects.aggregate(s=Sum("held"))["s"] == 0
    finally:
        writer.close()
        drop(name, home)


if __name__ == "__main__":
    main()
