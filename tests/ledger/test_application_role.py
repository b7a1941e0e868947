"""The application works as a role that owns nothing, and that role cannot bend the books."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import Error, connection, transaction
from django.test import Client

from ledger import partitions, reports, verify
from ledger.models import Adjustment, Call, PriceSheet
from ledger.publishing import publish
from tests import factories
from tests.ledger.rows import Pen, make_hold, make_settle

pytestmark = pytest.mark.django_db
ROLE = "tollbook_application_test"


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.fixture
def as_application() -> Iterator[None]:
    """Every statement from here on is the application role's; the role is gone with the test's transaction."""
    _run(f"CREATE ROLE {ROLE}")
    _run(f"SELECT ledger_grant_application('{ROLE}')")
    _run(f"SET LOCAL ROLE {ROLE}")
    yield
    _run("RESET ROLE")


def test_it_holds_settles_adjusts_and_reads(as_application: None) -> None:
    sheet = factories.make_sheet()
    key = factories.make_key()
    limit = factories.make_limit(key=key, amount="1000")
    pen = Pen()
    hold = make_hold(key=key, model=sheet.model, limits=(limit,))
    pen.write(holds=[hold])
    pen.write(settles=[make_settle(hold, sheet=sheet.pk, cost_usd=Decimal("0.0006"))])
    Adjustment.objects.create(
        call_id=hold.id, delta_usd=Decimal(1), counted_delta_usd=Decimal(1), reason=Adjustment.Reason.MANUAL
    )
    today = datetime.now(UTC).date()
    [row] = reports.spend(group_by=["key"], start=today - timedelta(days=1), end=today + timedelta(days=1))
    assert row.total_usd == Decimal("1.0006")
    assert partitions.strays() is None
    assert verify.differences() == []


def test_it_publishes_prices_and_serves_the_admin(as_application: None) -> None:
    draft = factories.make_sheet(published=False, valid_from=datetime(2030, 1, 1, tzinfo=UTC))
    published = publish(sheet=draft, actor=None, reason="next year", now=datetime.now(UTC))
    assert published.status == PriceSheet.Status.PUBLISHED
    browser = Client()
    browser.force_login(factories.make_user(superuser=True))
    for page in ("ledger/call/", "ledger/archivedmonth/", "ledger/pricesheet/", "ledger/reconcilerun/"):
        assert browser.get(f"/admin/{page}").status_code == 200


def test_it_has_next_months_partition_made_though_it_owns_none(as_application: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_make_partitions('2041-01-01', 2)")
        assert cursor.fetchone() == (2,)
        cursor.execute("SELECT count(*) FROM ledger_call_2041_02")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TABLE ledger_call CASCADE",
        "DROP TABLE ledger_call_default",
        "ALTER TABLE ledger_call DETACH PARTITION ledger_call_default",
        "ALTER TABLE ledger_call DISABLE TRIGGER ALL",
        "ALTER TABLE ledger_adjustment DISABLE TRIGGER append_only",
        "DROP TRIGGER append_only ON ledger_batch",
        "CREATE OR REPLACE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "DROP FUNCTION ledger_apply_adjustment() CASCADE",
        "SET session_replication_role = replica",
        "UPDATE ledger_call SET cost_usd = 0",
        "DELETE FROM ledger_call",
        "TRUNCATE ledger_call",
        "UPDATE ledger_adjustment SET delta_usd = 0",
        "DELETE FROM ledger_batch",
        "TRUNCATE ledger_rate CASCADE",
        "INSERT INTO ledger_archivedwindow (month, window_id, used) VALUES ('2026-01-01', 1, 1)",
        "UPDATE ledger_archivedmonth SET dropped_at = now()",
        "DELETE FROM django_migrations",
        "SELECT ledger_grant_application(current_user)",
    ],
)
def test_it_cannot_bend_the_books(harm: str, as_application: None) -> None:
    with pytest.raises(Error, match=r"must be owner|permission denied|append-only"), transaction.atomic():
        _run(harm)


def test_a_call_cannot_be_written_by_its_partitions_name(as_application: None) -> None:
    with pytest.raises(Error, match="permission denied"), transaction.atomic():
        _run("DELETE FROM ledger_call_default")
    assert not Call.objects.exists()
