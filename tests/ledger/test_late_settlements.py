"""A settle that comes after the sweep brings the call to the truth, whatever was said of it meanwhile."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger import verify
from ledger.models import Adjustment, DailySpend, LimitWindow
from ledger.money import format_short
from ledger.rows import HoldRow
from tests import factories
from tests.ledger.written import Sender, make_hold, make_priced, make_settle, unknown

pytestmark = pytest.mark.django_db


def swept() -> tuple[Sender, HoldRow]:
    """A call that was abandoned with a bound of 1 USD, under a limit."""
    key, sheet = make_priced()
    limit = factories.make_limit(key=key)
    sender, hold = Sender(), make_hold(key=key, sheet=sheet, usd="1", limits=[limit.pk])
    sender.write(holds=[hold])
    sender.write(settles=[unknown(hold)])
    return sender, hold


def books() -> tuple[str, int, str]:
    """(what was spent, how many calls have no known cost, what the limit counts)."""
    rows = list(DailySpend.objects.all())
    total = sum((row.cost_usd + row.adjustments_usd for row in rows), start=Decimal(0))
    used = LimitWindow.objects.get().used
    return format_short(total), sum(row.unpriced_calls for row in rows), format_short(used)


def test_it_makes_an_unknown_cost_known() -> None:
    sender, hold = swept()
    assert books() == ("0", 1, "1")
    sender.write(settles=[make_settle(hold)])
    assert books() == ("0.06", 0, "0.06")
    assert verify.differences() == []


@pytest.mark.parametrize("settles", [True, False])
def test_it_ends_at_the_provider_s_figure_after_a_reconciliation(settles: bool) -> None:
    """The invoice said 0.05 before the call's own answer said 0.06: it cost 0.06, once."""
    sender, hold = swept()
    Adjustment.objects.create(
        call_id=hold.id, delta_usd=Decimal("0.05"), counted_delta_usd=Decimal("-0.95"), settles_unknown=settles,
        reason="reconcile", reference="invoice 7",
    )
    assert sender.write(settles=[make_settle(hold)]) is None
    assert books() == ("0.06", 0, "0.06")
    late = Adjustment.objects.get(reason="late_settlement")
    assert (late.delta_usd, late.settles_unknown) == (Decimal("0.01"), not settles)
    assert verify.differences() == []


def test_it_changes_nothing_where_it_knows_no_more() -> None:
    sender, hold = swept()
    sender.write(settles=[unknown(hold)])
    assert books() == ("0", 1, "1")
    assert verify.differences() == []


def test_the_second_one_is_nothing() -> None:
    sender, hold = swept()
    sender.write(settles=[make_settle(hold)])
    sender.write(settles=[make_settle(hold, input_tokens=9, meters={"input": 9})])
    assert Adjustment.objects.count() == 1
    assert verify.differences() == []
