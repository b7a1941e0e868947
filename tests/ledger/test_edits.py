"""Whatever corrects the books, in whatever order: charges + adjustments = a fresh rating, and verify finds nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger import database, rerate_runs, verify
from ledger.models import Adjustment, Call, PriceSheet
from ledger.prices import compiled
from ledger.rating import Conditions, rate
from ledger.reconcile import posting
from ledger.rerate import Selection
from ledger.rows import HoldRow
from tests import factories
from tests.ledger.reconcile.test_reconciling import NOON, Books, _costs
from tests.ledger.rows import Pen, make_hold, make_settle
from tests.ledger.settled import request_id_at

pytestmark = pytest.mark.django_db
UNKNOWN: dict[str, Any] = {
    "outcome": "abandoned", "cost_usd": None, "cost_source": "unknown", "unpriced_reason": "the process died",
    "input_tokens": 0, "output_tokens": 0, "meters": {}, "usage_source": "none",
}  # fmt: skip
Usage = dict[str, int]


class Edited(Books):
    """Calls of one day in October, priced, unpriced or swept, and everything that may correct them."""

    def __init__(self) -> None:
        super().__init__()
        self.pen = Pen()
        self.newest: PriceSheet = self.sheet
        self.swept: list[tuple[HoldRow, Usage]] = []
        self.used: dict[Any, Usage] = {}
        self.number = 0

    def add(self, kind: str, tokens_in: int, tokens_out: int) -> None:
        usage = {name: n for name, n in (("input", tokens_in), ("output", tokens_out)) if n}
        if kind == "swept":
            hold = make_hold(
                key=self.key, model=self.model, limits=(self.limit,), request_id=request_id_at(NOON),
                sheet=self.sheet.pk,
            )  # fmt: skip
            self.pen.write(holds=[hold])
            self.pen.write(settles=[make_settle(hold, started_at=NOON, finished_at=NOON, **UNKNOWN)])
            self.swept.append((hold, usage))
            return
        if kind == "priced":
            call = self.call(input=tokens_in, output=tokens_out)
        else:
            call = self.unknown(input=tokens_in, output=tokens_out, sheet=None)
        self.used[call.pk] = usage

    def fresh(self, usage: Usage, sheet: PriceSheet) -> Decimal:
        found = rate(
            sheet=compiled(sheet), meters=dict(usage), input_total=usage.get("input", 0), conditions=Conditions(at=NOON)
        )
        assert found.cost_usd is not None
        return found.cost_usd

    def correct_price(self, input_usd: Decimal, output_usd: Decimal) -> None:
        self.number += 1
        self.newest = factories.make_sheet(
            model=self.model, book="override", valid_from=factories.LONG_AGO + timedelta(days=self.number),
            rates={"input": str(input_usd), "output": str(output_usd)}, per=1_000_000,
        )  # fmt: skip

    def rerate(self, *_: Decimal) -> None:
        october = datetime(2026, 10, 1, tzinfo=UTC)
        selection = Selection(model_id=self.model.pk, start=october, end=october + timedelta(days=31))
        run = rerate_runs.work(rerate_runs.begin(selection, applies=True).pk)
        assert (run.state, run.problem) == ("done", "")

    def settle_late(self, *_: Decimal) -> None:
        if self.swept:
            hold, usage = self.swept.pop()
            values = {
                "meters": usage, "input_tokens": usage.get("input", 0), "output_tokens": usage.get("output", 0),
                "cost_usd": self.fresh(usage, self.sheet), "started_at": NOON, "finished_at": NOON,
            }  # fmt: skip
            self.pen.write(settles=[make_settle(hold, **values)])
            self.used[hold.id] = usage

    def reconcile(self, input_usd: Decimal, output_usd: Decimal) -> None:
        self.number += 1
        costs = _costs(input=f"{input_usd:f}", output=f"{output_usd:f}")
        self.post(costs, reference=f"invoice {self.number}")

    def totals(self) -> dict[Any, Decimal]:
        found = {call.pk: call.cost_usd or Decimal(0) for call in Call.objects.filter(model=self.model)}
        for call_id, delta in Adjustment.objects.filter(call_id__in=found).values_list("call_id", "delta_usd"):
            found[call_id] += delta
        return found


USAGES = st.lists(
    st.tuples(st.sampled_from(["priced", "unknown", "swept"]), st.integers(0, 10**6), st.integers(1, 10**6)),
    min_size=1, max_size=4,
)  # fmt: skip
AMOUNTS = st.decimals(min_value=0, max_value=50, places=9).filter(lambda amount: amount > 0)
EDITS: dict[str, Callable[[Edited, Decimal, Decimal], None]] = {
    "correct a price": Edited.correct_price, "re-rate": Edited.rerate, "settle late": Edited.settle_late,
    "post an invoice": Edited.reconcile,
}  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(usages=USAGES, edits=st.lists(st.tuples(st.sampled_from(sorted(EDITS)), AMOUNTS, AMOUNTS), max_size=7))
def test_after_any_edits_in_any_order_the_books_are_a_fresh_rating(
    usages: list[tuple[str, int, int]], edits: list[tuple[str, Decimal, Decimal]]
) -> None:
    with transaction.atomic():
        books = Edited()
        for usage in usages:
            books.add(*usage)
        for name, one, other in edits:
            EDITS[name](books, one, other)
            assert verify.differences() == []
        judge(books)
        # The next example begins with empty books.
        transaction.set_rollback(True)


def judge(books: Edited) -> None:
    before = books.totals()
    books.rerate()
    after = books.totals()
    known = {pk: books.fresh(usage, books.newest) for pk, usage in books.used.items()}
    # Of what nobody knows the usage of, an invoice may have said the cost; a price changes nothing there.
    assert after == before | known
    assert books.total_usd() == sum(after.values())
    count = Adjustment.objects.count()
    books.rerate()
    assert Adjustment.objects.count() == count
    assert verify.differences() == []


@pytest.fixture
def somebody_corrects() -> Iterator[None]:
    """Another connection has the turn to correct calls."""
    with database.connect(application_name="tests") as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(hashtext('ledger_correct'))")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("correct", [Edited.rerate, Edited.reconcile], ids=["re-rating", "a posting"])
def test_who_corrects_calls_takes_turns(somebody_corrects: None, correct: Callable[..., None]) -> None:
    books = Edited()
    books.add("priced", 1000, 100)
    books.correct_price(Decimal(5), Decimal(5))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '50ms'")
    with pytest.raises(OperationalError, match="lock timeout"), transaction.atomic():
        correct(books, Decimal(1), Decimal(1))
    assert not Adjustment.objects.exists()


def test_a_late_settlement_that_slips_in_makes_the_posting_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between reading and writing, the call becomes known: the difference is another one now."""
    books = Edited()
    books.add("unknown", 1000, 100)
    real, slips = posting._lock_windows, [books]

    def slip_in(call_ids: list[Any]) -> None:
        real(call_ids)
        if slips:
            # Its own row already says so when the posting tries to.
            slips.pop()
            raise_as_the_index_would(call_ids[0])

    def raise_as_the_index_would(call_id: Any) -> None:
        for _ in range(2):
            Adjustment.objects.create(
                call_id=call_id, delta_usd=1, counted_delta_usd=1, reason="manual", settles_unknown=True
            )

    monkeypatch.setattr(posting, "_lock_windows", slip_in)
    books.reconcile(Decimal("0.5"), Decimal("0.001"))
    assert books.total_usd() == Decimal("0.501")
    assert verify.differences() == []
