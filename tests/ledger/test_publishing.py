"""Drafts, publishing, and what the database refuses whoever asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

from ledger import rating
from ledger.models import PriceSheet, Rate
from ledger.publishing import PublishError, content_sha256, draft_from, ensure_sheet, publish
from ledger.rating import Sheet, SheetError
from tests.factories import LONG_AGO, make_model, make_sheet, make_user

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOMORROW = NOW + timedelta(days=1)


def make_draft(**fields: Any) -> PriceSheet:
    return make_sheet(**{"valid_from": TOMORROW, "source": "admin", "published": False, **fields})


def published(sheet: PriceSheet, **fields: Any) -> PriceSheet:
    return publish(**{"sheet": sheet, "actor": None, "reason": "a test", "now": NOW, **fields})


# --- publish ---


def test_a_draft_is_published_with_who_when_why_and_what() -> None:
    actor = make_user()
    stored = published(make_draft(), actor=actor, reason="new contract")
    stored.refresh_from_db()
    assert (stored.status, stored.published_by_id, stored.published_at) == ("published", actor.pk, NOW)
    assert (stored.reason, stored.is_correction, len(stored.content_sha256)) == ("new contract", False, 64)


def test_it_may_begin_this_very_moment() -> None:
    assert published(make_draft(valid_from=NOW)).status == "published"


def test_it_refuses_to_rewrite_the_past_unless_it_is_a_correction() -> None:
    draft = make_draft(valid_from=NOW - timedelta(seconds=1))
    with pytest.raises(PublishError, match="begins before now"):
        published(draft)
    assert published(draft, correction=True).is_correction


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rates": {}}, "has no rates"),
        ({"discontinued": True}, "ends its book has no rates"),
        ({"rates": {"holograms": "1"}}, "unknown meter 'holograms'"),
    ],
)
def test_it_refuses_a_draft_that_cannot_price(fields: dict[str, Any], message: str) -> None:
    draft = make_draft(**fields)
    with pytest.raises(PublishError, match=message):
        published(draft)
    draft.refresh_from_db()
    assert draft.status == "draft"


def test_it_refuses_a_second_publish() -> None:
    draft = make_draft()
    published(draft)
    with pytest.raises(PublishError, match="only a draft can be published"):
        published(draft)


def test_it_refuses_a_second_sheet_of_a_book_for_one_instant() -> None:
    model = make_model()
    published(make_draft(model=model))
    with pytest.raises(PublishError, match="already has a published sheet"):
        published(make_draft(model=model))


def test_a_book_can_be_ended_by_a_sheet_without_rates() -> None:
    assert published(make_draft(rates={}, discontinued=True)).status == "published"


# --- drafts ---


def test_a_draft_copies_the_sheet_in_force() -> None:
    model = make_model()
    make_sheet(model=model, book="seed", rates={"input": "9"})
    current = make_sheet(model=model, book="list", rates={"input": "1", "output": "2"})
    draft = draft_from(model=model, valid_from=TOMORROW, reason="try")
    assert (draft.book, draft.status, draft.valid_from) == ("override", "draft", TOMORROW)
    assert list(draft.rates.order_by("meter").values_list("meter", "amount_usd", "per")) == [
        ("input", Decimal(1), 1000), ("output", Decimal(2), 1000)
    ]
    assert current.rates.count() == 2


def test_a_draft_for_a_model_without_prices_is_empty() -> None:
    assert draft_from(model=make_model(), valid_from=TOMORROW).rates.count() == 0


# --- ensure_sheet ---

SEED_RATES = (rating.Rate("input", Decimal("0.03"), 1_000), rating.Rate("output", Decimal("0.06"), 1_000))


def ensured(**fields: Any) -> tuple[PriceSheet, bool]:
    return ensure_sheet(
        **{"book": "seed", "valid_from": LONG_AGO, "rates": SEED_RATES, "source": "seed", "now": NOW, **fields}
    )


def test_the_same_sheet_twice_is_one_sheet() -> None:
    model = make_model()
    sheet, created = ensured(model=model)
    again, created_again = ensured(model=model, rates=reversed(SEED_RATES), now=TOMORROW)
    assert (created, created_again, again.pk) == (True, False, sheet.pk)
    assert PriceSheet.objects.count() == 1
    assert sheet.status == "published"


def test_a_draft_is_published_when_asked_for_later() -> None:
    model = make_model()
    draft, created = ensured(model=model, draft=True)
    assert (draft.status, created) == ("draft", True)
    assert ensured(model=model, draft=True) == (draft, False)
    sheet, _ = ensured(model=model)
    assert (sheet.pk, sheet.status) == (draft.pk, "published")


def test_other_prices_for_a_published_instant_are_refused() -> None:
    model = make_model()
    ensured(model=model)
    with pytest.raises(PublishError):
        ensured(model=model, rates=[rating.Rate("input", Decimal(1))])


def test_an_amount_that_does_not_fit_is_refused_not_rounded() -> None:
    with pytest.raises(SheetError, match="12 decimals"):
        ensured(model=make_model(), rates=[rating.Rate("input", Decimal("0.0000000000001"))])


def test_a_hash_knows_every_field_but_not_the_order_or_the_zeros() -> None:
    plain = content_sha256(Sheet(rates=SEED_RATES))
    zeros = tuple(rating.Rate(each.meter, each.amount_usd.quantize(Decimal("1e-12")), each.per) for each in SEED_RATES)
    assert content_sha256(Sheet(rates=zeros[::-1])) == plain
    for other in (
        rating.Rate("input", Decimal("0.03"), 1_000, region="eu"),
        rating.Rate("input", Decimal("0.031"), 1_000),
        rating.Rate("input", Decimal("0.03"), 1_000, minimum=Decimal(1)),
    ):
        assert content_sha256(Sheet(rates=(other, SEED_RATES[1]))) != plain
    assert content_sha256(Sheet(discontinued=True)) != content_sha256(Sheet())


# --- past Python ---


def refused(statement: str, *parameters: int | datetime) -> str:
    """The message with which the database refuses a statement."""
    with pytest.raises(DatabaseError) as error, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)
    return str(error.value)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_pricesheet SET valid_from = now() WHERE id = %s",
        "UPDATE ledger_pricesheet SET status = 'draft' WHERE id = %s",
        "UPDATE ledger_pricesheet SET reason = reason WHERE id = %s",
        "DELETE FROM ledger_pricesheet WHERE id = %s",
        "UPDATE ledger_rate SET amount_usd = 0.01 WHERE sheet_id = %s",
        "DELETE FROM ledger_rate WHERE sheet_id = %s",
    ],
)
def test_a_published_sheet_and_its_rates_are_frozen(statement: str) -> None:
    assert "is published" in refused(statement, make_sheet().pk)


def test_a_published_sheet_takes_no_new_rate_and_none_from_a_draft() -> None:
    sheet, draft = make_sheet(), make_draft()
    with pytest.raises(DatabaseError, match="is published"), transaction.atomic():
        Rate.objects.create(sheet=sheet, meter="cache_read", amount_usd=1)
    assert "is published" in refused(
        "UPDATE ledger_rate SET sheet_id = %s, meter = 'cache_read' WHERE sheet_id = %s AND meter = 'input'",
        sheet.pk, draft.pk,
    )


@pytest.mark.parametrize("table", ["ledger_pricesheet CASCADE", "ledger_rate"])
def test_prices_are_never_truncated(table: str) -> None:
    assert "cannot be truncated" in refused(f"TRUNCATE {table}")


def test_the_triggers_hold_for_replication_sessions_too() -> None:
    sheet = make_sheet()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
    assert "is published" in refused("DELETE FROM ledger_rate WHERE sheet_id = %s", sheet.pk)


def test_no_sheet_is_born_published() -> None:
    with pytest.raises(DatabaseError, match="begins as a draft"), transaction.atomic():
        PriceSheet.objects.create(
            model=make_model(), valid_from=LONG_AGO, status="published", published_at=NOW, source="file"
        )


@pytest.mark.parametrize("fields", [{"rates": {}}, {"discontinued": True}])
def test_the_database_refuses_to_publish_without_rates_or_an_end_with_rates(fields: dict[str, Any]) -> None:
    draft = make_draft(**fields)
    publishing = "UPDATE ledger_pricesheet SET status = 'published', published_at = %s WHERE id = %s"
    assert "a sheet has rates, or is discontinued and has none" in refused(publishing, NOW, draft.pk)


def test_a_draft_can_be_changed_and_thrown_away() -> None:
    draft = make_draft()
    draft.rates.filter(meter="input").update(amount_usd=7)
    draft.rates.filter(meter="output").delete()
    draft.delete()
    assert not Rate.objects.filter(sheet=draft.pk).exists()


def in_another_session(work: Callable[[], Any]) -> Any:
    """What `work` returns when it runs on a connection of its own, outside this test's transaction."""

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


@pytest.fixture
def committed_draft() -> Iterator[PriceSheet]:
    """A draft that other sessions see too; thrown away afterwards."""
    draft = in_another_session(make_draft)

    def throw_away() -> None:
        draft.delete()
        draft.model.delete()
        draft.model.provider.delete()

    yield draft
    in_another_session(throw_away)


def test_a_rate_cannot_slip_in_while_its_sheet_is_being_published(committed_draft: PriceSheet) -> None:
    def add_rate() -> str:
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '50ms'")
                Rate.objects.create(sheet=committed_draft, meter="cache_read", amount_usd=1)
        except DatabaseError as error:
            return str(error)
        return "added"

    with transaction.atomic():
        published(committed_draft)
        # Held back at the sheet itself, not later at the row that counts changes: there it would be too late.
        assert re.search(r"lock timeout(.|\n)*locking tuple .* \"ledger_pricesheet\"", in_another_session(add_rate))
        transaction.set_rollback(True)
    assert not committed_draft.rates.filter(meter="cache_read").exists()
