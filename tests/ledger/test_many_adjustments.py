"""Adjustments inserted at once move each window and each rollup row by all of them together."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pytest
from django.db import IntegrityError, transaction

from ledger import verify
from ledger.models import Adjustment, DailySpend, LimitWindow
from tests import factories
from tests.ledger.written import Sender, make_hold, make_priced, make_settle, unknown

pytestmark = pytest.mark.django_db


def correction(call_id: uuid.UUID, delta: str, *, counted: str = "", settles: bool = False) -> Adjustment:
    return Adjustment(
        call_id=call_id, delta_usd=Decimal(delta), counted_delta_usd=Decimal(counted or delta), settles_unknown=settles,
        reason="manual",
    )  # fmt: skip


def written() -> list[uuid.UUID]:
    """Two calls of 0.06 USD and one of unknown cost that counts as 1 USD, under one limit."""
    key, sheet = make_priced()
    limit = factories.make_limit(key=key, amount=Decimal(100))
    sender = Sender()
    holds = [make_hold(key=key, sheet=sheet, usd="1", limits=[limit.pk]) for _ in range(3)]
    sender.write(holds=holds)
    sender.write(settles=[make_settle(holds[0]), make_settle(holds[1]), unknown(holds[2])])
    return [hold.id for hold in holds]


def test_they_add_up_in_the_rollups_and_the_windows() -> None:
    first, second, blank = written()
    Adjustment.objects.bulk_create(
        [
            correction(first, "0.01"), correction(first, "0.02"), correction(second, "-0.005"),
            correction(blank, "0.5", counted="-0.5", settles=True),
        ]
    )  # fmt: skip

    assert sum(row.adjustments_usd for row in DailySpend.objects.all()) == Decimal("0.525")
    assert sum(row.unpriced_calls for row in DailySpend.objects.all()) == 0
    assert LimitWindow.objects.get().used == Decimal("0.645")
    assert verify.differences() == []


def test_one_of_a_call_that_is_not_there_refuses_them_all() -> None:
    first, *_ = written()
    stranger = uuid.uuid4()
    with pytest.raises(IntegrityError, match=str(stranger)), transaction.atomic():
        Adjustment.objects.bulk_create([correction(first, "0.01"), correction(stranger, "0.01")])

    assert not Adjustment.objects.exists()
    assert LimitWindow.objects.get().used == Decimal("1.12")
