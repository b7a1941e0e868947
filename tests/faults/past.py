"""A month of calls that is over, for what is done with such months: rating them anew, reconciling, archiving.

`python -m tests.faults.past COUNT` writes them by the ledger's own functions and prints a Past as JSON.
"""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

from tests.faults.world import ROOT, environment

MODEL, PROVIDER, UPSTREAM = "m-past", "past", "past-model"
DAYS = 2
COST_USD, RERATED_USD = Decimal("0.000105"), Decimal("0.000135")
_INPUT, _OUTPUT, _BATCH = 10, 5, 200
MAPPING = """
day: day
model: model
meter: meter
quantity: quantity
amount: amount
"""


class Past(Struct, frozen=True):
    """`days` each have `calls_a_day` calls, priced at COST_USD and, by the sheet that is right, at RERATED_USD."""

    month: date
    days: list[date]
    calls_a_day: int

    @property
    def calls(self) -> int:
        return self.calls_a_day * len(self.days)

    def write_bill(self, folder: Path) -> list[str]:
        """What the provider charges, a little more than RERATED_USD; the arguments that `reconcile` reads it by."""
        rows = ["day,model,meter,quantity,amount"]
        for day in self.days:
            for meter, tokens, usd in (("input", _INPUT, Decimal("0.00007")), ("output", _OUTPUT, Decimal("0.000075"))):
                rows.append(f"{day},{UPSTREAM},{meter},{tokens * self.calls_a_day},{usd * self.calls_a_day}")
        (folder / "bill.csv").write_text("\n".join(rows) + "\n")
        (folder / "mapping.yaml").write_text(MAPPING)
        return [str(folder / "bill.csv"), "--provider", PROVIDER, "--mapping", str(folder / "mapping.yaml")]


def make(*, url: str, calls: int) -> Past:
    command = [sys.executable, "-m", "tests.faults.past", str(calls)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(url), check=True, timeout=120, stdout=subprocess.PIPE
    )
    return msgspec.json.decode(done.stdout, type=Past)


# --- in the process of its own --------------------------------------------------------------------------------


def _make(calls: int) -> Past:
    from tests import factories
    from tests.ledger.rows import Pen, make_hold, make_settle
    from tests.ledger.settled import request_id_at

    last = datetime.now(UTC).replace(day=1, hour=12, minute=0, second=0, microsecond=0) - timedelta(days=10)
    noons = [last - timedelta(days=DAYS - number) for number in range(DAYS)]
    model = factories.make_model(
        name=MODEL, provider=factories.make_provider(name=PROVIDER), upstream_name=UPSTREAM
    )
    sheet = factories.make_sheet(model=model, rates={"input": "3", "output": "15"}, per=1_000_000)
    key = factories.make_key(user=factories.make_user(username="past-user"))
    limit = factories.make_limit(metric="usd", period="total", amount="1000", key=key)
    pen = Pen()
    for noon in noons:
        for begun in range(0, calls // DAYS, _BATCH):
            holds = [
                make_hold(
                    key=key, model=model, limits=(limit,), sheet=sheet.pk, usd=Decimal("0.01"),
                    request_id=request_id_at(noon + timedelta(seconds=number)),
                )
                for number in range(begun, min(begun + _BATCH, calls // DAYS))
            ]  # fmt: skip
            pen.write(holds=holds)
            pen.write(settles=[make_settle(hold, cost_usd=COST_USD, started_at=noon) for hold in holds])
    # The price that should have been.
    factories.make_sheet(model=model, book="override", rates={"input": "6", "output": "15"}, per=1_000_000)
    return Past(noons[0].date().replace(day=1), [noon.date() for noon in noons], calls // DAYS)


def main() -> None:
    import django

    django.setup()
    print(msgspec.json.encode(_make(int(sys.argv[1]))).decode())


if __name__ == "__main__":
    main()
