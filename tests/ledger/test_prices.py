"""Which sheet prices a model at an instant."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from ledger import prices
from ledger.models import PriceSheet, Rate
from ledger.prices import PriceBook, calculate_cost, current_rates, get_pricing, load
from ledger.publishing import publish
from ledger.rating import Conditions, Sheet
from tests.factories import LONG_AGO, make_model, make_sheet

pytestmark = pytest.mark.django_db

JUNE = datetime(2026, 6, 1, tzinfo=UTC)
JULY = datetime(2026, 7, 1, tzinfo=UTC)
A_MOMENT = timedelta(microseconds=1)


def id_at(book: PriceBook, model_id: int, at: datetime) -> int | None:
    sheet = book.sheet_at(model_id=model_id, at=at)
    return None if sheet is None else sheet.id


def test_a_sheet_holds_from_its_first_instant_until_the_next_begins() -> None:
    model = make_model()
    old, new = make_sheet(model=model), make_sheet(model=model, valid_from=JUNE)
    book = load()
    assert id_at(book, model.pk, LONG_AGO - A_MOMENT) is None
    assert id_at(book, model.pk, LONG_AGO) == old.pk
    assert id_at(book, model.pk, JUNE - A_MOMENT) == old.pk
    assert id_at(book, model.pk, JUNE) == new.pk
    assert id_at(book, model.pk, JULY) == new.pk


def test_the_highest_book_that_has_begun_wins() -> None:
    model = make_model()
    seed = make_sheet(model=model, book="seed")
    listed = make_sheet(model=model, book="list", valid_from=LONG_AGO + timedelta(days=1))
    contract = make_sheet(model=model, book="contract", valid_from=JUNE)
    make_sheet(model=model, book="override", valid_from=JULY)
    book = load()
    assert id_at(book, model.pk, LONG_AGO) == seed.pk
    assert id_at(book, model.pk, JUNE - A_MOMENT) == listed.pk
    assert id_at(book, model.pk, JUNE) == contract.pk
    assert id_at(book, model.pk, JULY) == contract.pk


def test_a_discontinued_sheet_ends_its_book_and_the_one_below_holds_again() -> None:
    model = make_model()
    listed = make_sheet(model=model, book="list")
    contract = make_sheet(model=model, book="contract", valid_from=JUNE)
    make_sheet(model=model, book="contract", valid_from=JULY, rates={}, discontinued=True)
    book = load()
    assert id_at(book, model.pk, JULY - A_MOMENT) == contract.pk
    assert id_at(book, model.pk, JULY) == listed.pk


def test_with_every_book_ended_there_is_no_price() -> None:
    model = make_model()
    make_sheet(model=model)
    make_sheet(model=model, valid_from=JUNE, rates={}, discontinued=True)
    assert load().sheet_at(model_id=model.pk, at=JUNE) is None


def test_drafts_price_nothing() -> None:
    model = make_model()
    draft = make_sheet(model=model, published=False)
    book = load()
    assert len(book) == 0
    assert book.sheet_at(model_id=model.pk, at=JUNE) is None
    assert book.sheet(draft.pk) is None


def test_a_superseded_sheet_is_still_found_by_its_id() -> None:
    model = make_model()
    old = make_sheet(model=model)
    make_sheet(model=model, valid_from=JUNE)
    found = load().sheet(old.pk)
    assert found is not None
    assert (found.id, found.book) == (old.pk, "list")


def test_a_book_is_read_with_two_queries(django_assert_num_queries: object) -> None:
    for _ in range(3):
        make_sheet()
    with django_assert_num_queries(2):  # type: ignore[operator]
        assert len(load()) == 3


def test_every_field_of_a_rate_reaches_the_sheet() -> None:
    sheet = make_sheet(rates={}, published=False)
    values = {
        "meter": "audio_seconds", "amount_usd": Decimal("0.5"), "per": 1000, "above_tokens": 7, "tier_inclusive": True,
        "service_tier": "batch", "speed": "fast", "region": "eu", "variant": "low", "weekdays": 3,
        "window_start": time(1), "window_end": time(2), "minimum": Decimal(10), "quantum": Decimal(2),
        "zero_reason": "none",
    }
    stored = Rate.objects.create(sheet=sheet, **values)
    [rate] = prices.compiled(sheet).rates
    assert {name: getattr(rate, name) for name in values} == values
    assert rate.id == stored.pk


def test_a_sheet_that_cannot_be_used_leaves_its_calls_unpriced_and_the_others_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, fine = make_sheet(rates={"holograms": "1"}), make_sheet()
    make_sheet(model=broken.model, book="seed")
    with caplog.at_level(logging.ERROR):
        book = load()
    assert "cannot be used" in caplog.text
    bad = book.sheet_at(model_id=broken.model_id, at=JUNE)
    assert (bad and bad.id, bad and bad.rates) == (broken.pk, ())
    good = book.sheet_at(model_id=fine.model_id, at=JUNE)
    assert isinstance(good, Sheet)
    assert len(good.rates) == 2


def test_pages_and_calls_agree_on_what_is_in_force() -> None:
    one, two, three = make_model(name="one"), make_model(name="two"), make_model(name="three")
    make_sheet(model=one, book="seed", rates={"input": "1"})
    make_sheet(model=one, book="list", valid_from=JUNE, rates={"input": "2"})
    make_sheet(model=two, book="contract", rates={"input": "3"})
    make_sheet(model=two, book="contract", valid_from=JUNE, rates={}, discontinued=True)
    make_sheet(model=two, book="seed", rates={"input": "4"})
    make_sheet(model=three, valid_from=JULY, rates={"input": "5"})
    book = load()
    for at in (LONG_AGO - A_MOMENT, LONG_AGO, JUNE - A_MOMENT, JUNE, JULY):
        shown = {rate.sheet.model_id: rate.sheet_id for rate in current_rates(at=at)}
        in_memory = {model.pk: id_at(book, model.pk, at) for model in (one, two, three)}
        assert shown == {model_id: sheet_id for model_id, sheet_id in in_memory.items() if sheet_id is not None}


def test_pages_list_rates_by_model_name() -> None:
    make_sheet(model=make_model(name="zebra"))
    make_sheet(model=make_model(name="ant"))
    names = [(rate.sheet.model.name, rate.meter) for rate in current_rates(at=JUNE)]
    assert names == [("ant", "input"), ("ant", "output"), ("zebra", "input"), ("zebra", "output")]


def test_the_price_and_cost_of_a_model_can_be_asked_for() -> None:
    model = make_model(name="gpt-4")
    sheet = make_sheet(model=model, book="seed")
    found = get_pricing(model, JUNE)
    assert found is not None
    assert found.id == sheet.pk
    assert calculate_cost(model, {"input": 1000, "output": 500}, JUNE).cost_usd == Decimal("0.06")
    assert calculate_cost(model, {"input": 1}, LONG_AGO - A_MOMENT).unpriced_reason == "no published price"
    priority = Conditions(at=JUNE, service_tier="priority")
    assert calculate_cost(model, {"input": 1}, JUNE, priority).cost_usd is None


def test_a_publish_changes_a_new_book_and_not_one_in_use() -> None:
    model = make_model()
    old = make_sheet(model=model)
    before = load()
    draft = make_sheet(model=model, book="override", valid_from=timezone.now() + timedelta(days=1), published=False)
    publish(sheet=draft, actor=None, reason="next month", now=timezone.now())
    later = timezone.now() + timedelta(days=2)
    assert id_at(before, model.pk, later) == old.pk
    assert id_at(load(), model.pk, later) == draft.pk


def test_every_book_has_a_precedence() -> None:
    assert sorted(prices.PRECEDENCE) == sorted(PriceSheet.Book.values)
