"""A call's variant, once it is in the books: re-rating and verifying price by it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger.models import PriceSheet, Rate
from ledger.rerate import examine, tally
from ledger.verify.costs import costs
from ledger.verify.scope import EVERYTHING
from providers.models import Model
from tests import factories
from tests.ledger.test_rerate import make_call, november

pytestmark = pytest.mark.django_db
HIGH, LOW = "high-1024x1024", "low-1024x1024"


def sheet_of(model: Model, amounts: dict[str, str], *, book: str = "list") -> PriceSheet:
    """A published sheet of USD an image, by variant."""
    sheet = factories.make_sheet(model=model, rates={}, book=book, published=False)
    for variant, amount in amounts.items():
        Rate.objects.create(sheet=sheet, meter="images", amount_usd=Decimal(amount), per=1, variant=variant)
    sheet.status, sheet.published_at = PriceSheet.Status.PUBLISHED, sheet.created_at
    sheet.save(update_fields=["status", "published_at"])
    return sheet


def test_a_call_is_rated_again_by_its_variant() -> None:
    model = factories.make_model()
    first = sheet_of(model, {LOW: "0.01", HIGH: "0.2"})
    for variant, cost in ((LOW, "0.02"), (HIGH, "0.4")):
        make_call(model, sheet=first, meters={"images": 2}, variant=variant, cost_usd=Decimal(cost))
    assert examine(november(model)).corrections == ()
    assert list(costs(EVERYTHING)) == []
    dearer = sheet_of(model, {LOW: "0.02", HIGH: "0.3"}, book="override")
    assert tally(november(model, dearer)).delta_usd == Decimal("0.02") + Decimal("0.2")


def test_a_wrong_cost_of_a_variant_is_found() -> None:
    model = factories.make_model()
    sheet = sheet_of(model, {LOW: "0.01", HIGH: "0.2"})
    call = make_call(model, sheet=sheet, meters={"images": 1}, variant=HIGH, cost_usd=Decimal("0.01"))
    [correction] = examine(november(model)).corrections
    assert correction.delta_usd == Decimal("0.19")
    [found] = costs(EVERYTHING)
    assert str(call.pk) in found
