"""The pages of reconciliation and of the months."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client

from ledger.models import Adjustment, ArchivedMonth, PriceSheet, ReconcileRun
from tests import factories
from tests.ledger.reconcile.exports import openai_cost, openai_page, openai_usage
from tests.ledger.settled import settle_at

pytestmark = pytest.mark.django_db
DAY = date(2025, 3, 5)
UPLOAD = "/admin/ledger/reconcilerun/upload/"


def _upload(page: Client, *, cost: float = 0.003, content: bytes | None = None) -> HttpResponse:
    provider = factories.make_provider()
    sheet = factories.make_sheet(
        model=factories.make_model(name="gpt-4o", provider=provider), rates={"input": "2.5"}, per=1_000_000
    )
    settle_at(
        datetime(2025, 3, 5, 12, tzinfo=UTC), key=factories.make_key(), model=sheet.model, sheet=sheet.pk,
        meters={"input": 1000}, cost_usd=Decimal("0.0025"), input_tokens=1000, output_tokens=0,
    )  # fmt: skip
    costs = content if content is not None else openai_page({DAY: [openai_cost("gpt-4o, input", cost)]})
    usage = openai_page({DAY: [openai_usage("gpt-4o", input_tokens=1000)]})
    return page.post(
        UPLOAD,
        {"provider": provider.pk, "export": SimpleUploadedFile("costs.json", costs),
         "other": SimpleUploadedFile("usage.json", usage), "account": "", "mapping": ""},
    )  # type: ignore[return-value]  # the test client's own kind of answer


def test_an_upload_shows_its_classes_and_the_price_that_explains_it(admin_page: Client) -> None:
    answer = _upload(admin_page)
    page = admin_page.get(answer["Location"]).content.decode()
    assert "price differs" in page
    assert "gpt-4o input from 2025-03-05: 2.5 → 3" in page
    assert "Post the differences" in page
    assert not Adjustment.objects.exists()


def test_posting_needs_the_tick_and_happens_once(admin_page: Client) -> None:
    url = _upload(admin_page)["Location"]
    admin_page.post(url, {"post": "yes"})
    assert not Adjustment.objects.exists()
    for _ in range(2):
        admin_page.post(url, {"post": "yes", "confirm": "yes"})
    adjustment = Adjustment.objects.get()
    assert (adjustment.delta_usd, adjustment.actor and adjustment.actor.username) == (Decimal("0.0005"), "root")
    run = ReconcileRun.objects.get()
    assert (run.posted_usd, run.posted_calls) == (Decimal("0.0005"), 1)
    assert "Post the differences" not in admin_page.get(url).content.decode()


def test_the_proposed_price_becomes_a_draft(admin_page: Client) -> None:
    admin_page.post(_upload(admin_page)["Location"], {"draft": "yes"})
    draft = PriceSheet.objects.get(status="draft")
    assert [rate.amount_usd for rate in draft.rates.all()] == [Decimal(3)]


def test_a_bad_file_is_told_by_row_and_field_and_not_kept(admin_page: Client) -> None:
    page = _upload(admin_page, content=openai_page({DAY: [openai_cost("gpt-4o, input", "six")]}))
    assert "row 1, amount.value: &#x27;six&#x27; is not a number" in page.content.decode()
    assert not ReconcileRun.objects.exists()


def test_the_same_upload_again_is_the_same_run(admin_page: Client) -> None:
    provider = factories.make_provider()
    page = openai_page({DAY: []})
    for name in ("a.json", "b.json"):
        values = {"provider": provider.pk, "export": SimpleUploadedFile(name, page)}
        assert admin_page.post(UPLOAD, values).status_code == 302
    assert ReconcileRun.objects.count() == 1


def test_who_may_only_look_can_neither_upload_nor_post(admin_page: Client) -> None:
    url = _upload(admin_page)["Location"]
    auditor = factories.make_user(staff=True)
    auditor.user_permissions.add(Permission.objects.get(codename="view_reconcilerun"))
    browser = Client()
    browser.force_login(auditor)
    assert "Post the differences" not in browser.get(url).content.decode()
    assert browser.post(url, {"post": "yes", "confirm": "yes"}).status_code == 403
    assert browser.get(UPLOAD).status_code == 403
    assert not Adjustment.objects.exists()


def test_a_name_from_an_export_is_text_and_never_markup(admin_page: Client) -> None:
    rows = [openai_cost("<script>alert(1)</script>, input", 1)]
    page = admin_page.get(_upload(admin_page, content=openai_page({DAY: rows}))["Location"]).content.decode()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;" in page


def test_a_report_on_a_dropped_month_says_where_its_calls_are(admin_page: Client) -> None:
    url = _upload(admin_page)["Location"]
    ArchivedMonth.objects.create(
        month=date(2025, 3, 1), path="/a", sha256="0" * 64, bytes=1, calls=1,
        archived_at=datetime(2026, 1, 1, tzinfo=UTC), dropped_at=datetime(2026, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    for answer in (admin_page.get(url, follow=True), admin_page.post(url, {"draft": "yes"}, follow=True)):
        assert "2025-03 was archived and dropped" in answer.content.decode()


def test_the_months_are_listed_and_a_stray_call_alarms(admin_page: Client) -> None:
    url = "/admin/ledger/archivedmonth/"
    assert "default partition" not in admin_page.get(url).content.decode()
    settle_at(datetime(2021, 1, 1, tzinfo=UTC), key=factories.make_key(), model=factories.make_model())
    ArchivedMonth.objects.create(
        month=date(2020, 1, 1), path="/a", sha256="0" * 64, bytes=1, calls=7,
        archived_at=datetime(2024, 1, 1, tzinfo=UTC), dropped_at=datetime(2024, 1, 2, tzinfo=UTC),
    )  # fmt: skip
    page = admin_page.get(url).content.decode()
    assert "calls lie in the default partition" in page
    assert "2020-01" in page
    assert admin_page.get(f"{url}2020-01-01/change/").status_code == 200
