"""How long reports and pages take on ledgers of different sizes, and whether that grows with the calls.

    python bench/load.py --calls 1000000 && python bench/load.py --calls 10000000
    python bench/reports.py bench_1000000 bench_10000000 [--rounds 20] [--only admin]

Asks the views in this process, as a client with a session would, over the same catalog and days: each page on one
database and at once on the other, the order changing from round to round, so that whatever else the machine does meets
both. Prints the median and the 95th percentile of each page on each database, and the ratio of the medians of the last
to the first. Databases are those that bench/load.py made, of the same days.
"""

from __future__ import annotations

import argparse
import os
import statistics
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
from django.db import connections  # noqa: E402
from django.db.backends.base.base import BaseDatabaseWrapper  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402
from msgspec import Struct  # noqa: E402

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


class Ledger(Struct):
    """One database, a connection that stays open, a client with a session in it, and its pages: name -> address."""

    name: str
    connection: BaseDatabaseWrapper
    client: Client
    pages: dict[str, str]

    def use(self) -> None:
        """From now on Django talks to this database."""
        connections["default"] = self.connection


def opened(name: str) -> Ledger:
    connection = connections.create_connection("default")
    connection.settings_dict = {**connection.settings_dict, "NAME": name, "CONN_MAX_AGE": None}
    ledger = Ledger(name=name, connection=connection, client=Client(raise_request_exception=True), pages={})
    ledger.use()
    user, _ = User.objects.get_or_create(username="bench-admin", is_staff=True, is_superuser=True)
    ledger.client.force_login(user)
    ledger.pages = addresses() | {f"/api/calls/ {PAGES_AHEAD} pages on": deep(ledger.client)}
    return ledger


def asked_ms(ledger: Ledger, page: str) -> float:
    """Milliseconds of one answer."""
    ledger.use()
    began = time.perf_counter()
    response = ledger.client.get(ledger.pages[page])
    took_ms = (time.perf_counter() - began) * 1000
    assert response.status_code == 200, (page, response.status_code, response.content[:300])
    return took_ms


def measure(*, ledgers: list[Ledger], page: str, rounds: int) -> list[list[float]]:
    """Milliseconds of every round, by ledger, sorted. The first round warms the caches and does not count."""
    took: list[list[float]] = [[] for _ in ledgers]
    for number in range(rounds + 1):
        order = range(len(ledgers)) if number % 2 else reversed(range(len(ledgers)))
        for each in order:
            took[each].append(asked_ms(ledgers[each], page))
    return [sorted(each[1:]) for each in took]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("databases", nargs="+")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="Only pages whose name holds this.")
    options = parser.parse_args()
    setup_test_environment()
    ledgers = [opened(name) for name in options.databases]
    print(f"| page, ms: median / p95 | {' | '.join(options.databases)} | ratio |")
    print(f"|---|{'---:|' * (len(ledgers) + 1)}")
    for page in (page for page in ledgers[0].pages if options.only in page):
        took = measure(ledgers=ledgers, page=page, rounds=options.rounds)
        medians = [statistics.median(each) for each in took]
        highest = [each[min(len(each) - 1, int(len(each) * 0.95))] for each in took]
        cells = " | ".join(f"{median:.0f} / {high:.0f}" for median, high in zip(medians, highest, strict=True))
        print(f"| {page} | {cells} | {medians[-1] / medians[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
