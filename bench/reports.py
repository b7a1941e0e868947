"""How long reports and pages take on ledgers of different sizes, and whether that grows with the calls.

    python bench/load.py --calls 1000000 && python bench/load.py --calls 10000000
    python bench/reports.py bench_1000000 bench_10000000 [--rounds 20]

Asks the views in this process, as a client with a session would, over the same catalog and days. Prints the 95th
percentile of each page on each database, and their ratio. Databases are those that bench/load.py made.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from bench.scratch import use  # noqa: E402
from ledger.models import Call  # noqa: E402
from ledger.reports import DIMENSIONS  # noqa: E402

PAGES_AHEAD = 50


def addresses() -> dict[str, str]:
    """What is asked, by what the table calls it."""
    today = datetime.now(UTC).date()
    month = f"from={today - timedelta(days=30)}&to={today}"
    one, two = [(name,) for name in DIMENSIONS], list(combinations(DIMENSIONS, 2))
    groups = [",".join(by) for by in [(), *one, *two]]
    asked = {f"/api/spend/ by {by or 'nothing'}": f"/api/spend/?group_by={by}&{month}" for by in groups}
    call = Call.objects.order_by("-id").values_list("pk", flat=True)[1000]
    owner = Call.objects.get(pk=call)
    quiet = User.objects.get(username="user-399").pk
    asked |= {
        "/api/calls/": "/api/calls/",
        "/api/calls/ of a user": f"/api/calls/?user={owner.user_id}",
        "/api/calls/ of a quiet user": f"/api/calls/?user={quiet}",
        "/api/calls/ of a key": f"/api/calls/?key={owner.key_id}",
        "/api/calls/ of a model": f"/api/calls/?model={owner.model_id}",
        "/api/calls/ of a provider": f"/api/calls/?provider={owner.provider_id}",
        "/api/calls/ failed": "/api/calls/?outcome=failed",
        "/api/calls/ of a user, failed": f"/api/calls/?outcome=failed&user={owner.user_id}",
        "/api/calls/ of a model that failed for a quiet user":
            f"/api/calls/?outcome=refused&user={quiet}&model={owner.model_id}",
        "/api/calls/ unpriced": "/api/calls/?unpriced=true",
        "/api/calls/ of a day": f"/api/calls/?from={today - timedelta(days=20)}&to={today - timedelta(days=20)}",
        "/api/calls/ by upstream id": f"/api/calls/?upstream_request_id={owner.upstream_request_id or 'req_x'}",
        "/api/calls/{id}/": f"/api/calls/{call}/",
        "admin calls": "/admin/ledger/call/",
        "admin calls of any day": "/admin/ledger/call/?day=any",
        "admin calls, page 10": "/admin/ledger/call/?p=10",
        "admin calls of a user": f"/admin/ledger/call/?user={owner.user_id}&day=31",
        "admin calls of a model": f"/admin/ledger/call/?model={owner.model_id}&day=31",
        "admin calls, failed": "/admin/ledger/call/?outcome=failed&day=any",
        "admin calls, none abandoned": "/admin/ledger/call/?outcome=abandoned&day=any",
        "admin calls, search": f"/admin/ledger/call/?q={call}",
        "admin call": f"/admin/ledger/call/{call}/change/",
        "admin spend": f"/admin/ledger/dailyspend/?start={today - timedelta(days=30)}&end={today}&group_by=user",
        "admin spend by user, model, day":
            f"/admin/ledger/dailyspend/?start={today - timedelta(days=6)}&end={today}"
            "&group_by=user&group_by=model&group_by=day",
    }  # fmt: skip
    return asked


def deep(client: Client) -> str:
    """The address of a page of calls far from the first."""
    address = "/api/calls/"
    for _ in range(PAGES_AHEAD):
        address = client.get(address).json()["next"]
    return address


def measure(*, database: str, rounds: int) -> dict[str, float]:
    """Milliseconds at the 95th percentile, by page."""
    use(database)
    user, _ = User.objects.get_or_create(username="bench-admin", is_staff=True, is_superuser=True)
    client = Client(raise_request_exception=True)
    client.force_login(user)
    asked = addresses() | {f"/api/calls/ {PAGES_AHEAD} pages on": deep(client)}
    found: dict[str, float] = {}
    for name, address in asked.items():
        took: list[float] = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            response = client.get(address)
            took.append((time.perf_counter() - began) * 1000)
            assert response.status_code == 200, (name, response.status_code, response.content[:300])
        # The first one warms the caches of the process.
        found[name] = sorted(took[1:])[min(rounds - 1, int(rounds * 0.95))]
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("databases", nargs="+")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    setup_test_environment()
    figures = [measure(database=name, rounds=options.rounds) for name in options.databases]
    print(f"| p95, ms | {' | '.join(options.databases)} | ratio |")
    print(f"|---|{'---:|' * (len(figures) + 1)}")
    for name in figures[0]:
        cells = [each[name] for each in figures]
        print(f"| {name} | {' | '.join(f'{cell:.1f}' for cell in cells)} | {cells[-1] / cells[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
