"""The import's page, and sheets to and from a spreadsheet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ledger.admin import price_tools
from ledger.models import DailySpend, PriceSheet
from ledger.price_import import make_plan
from ledger.price_import.plan import Plan
from ledger.price_import.source import BOOK_START, SourceModel, SourceProvider, SourceSheet
from ledger.rating import Rate
from providers.models import Model
from tests import factories
from tests.ledger.admin.test_prices import start_form

IMPORT, UPLOAD, DOWNLOAD = (f"admin:ledger_pricesheet_{name}" for name in ("import", "upload", "download"))
MARCH = datetime(2026, 3, 13, tzinfo=UTC)
HEADER = "model,book,valid_from,meter,amount_usd,per"


def source_model(name: str, *sheets: tuple[datetime, str]) -> SourceModel:
    dated = tuple(SourceSheet(start, False, (Rate("input", Decimal(amount)),)) for start, amount in sheets)
    return SourceModel(name, "", None, False, (name,), lambda text: text == name, dated)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, db: None) -> Model:
    """A model whose list price in the books is 2, an override of 1.5, and a data set of our own that says 2.5 and 9."""
    provider = factories.make_provider(name="openai", adapter="openai")
    model, steep = (factories.make_model(name=name, provider=provider) for name in ("plain", "steep"))
    for each in (model, steep):
        factories.make_sheet(model=each, valid_from=BOOK_START, rates={"input": "2"}, per=1_000_000)
    factories.make_sheet(model=model, book="override", rates={"input": "1.5"}, per=1_000_000)
    found = (
        source_model("plain", (BOOK_START, "2"), (MARCH, "2.5")), source_model("steep", (BOOK_START, "2"), (MARCH, "9"))
    )  # fmt: skip
    shelf = SourceProvider("openai", "https://example.com/pricing", (), found)

    def plan(*, now: datetime) -> Plan:
        return make_plan(now=now, sources={"openai": shelf})

    monkeypatch.setattr(price_tools, "make_plan", plan)
    return model


def call_yesterday(model: Model) -> None:
    key = factories.make_key()
    DailySpend.objects.create(
        day=(timezone.now() - timedelta(days=1)).date(), user=key.user, key=key, model=model, provider=model.provider,
        outcome="ok", slot=1, calls=1, input_tokens=4_000_000,
    )  # fmt: skip


def test_the_import_shows_what_changes_and_what_it_would_have_cost(admin_page: Client, listed: Model) -> None:
    call_yesterday(listed)
    page = admin_page.get(reverse(IMPORT)).content.decode()
    for text in (
        "input: 2 -&gt; 2.5 per 1,000,000 (+25.0%)", "last 30 days: 8 -&gt; 10 USD", "https://example.com/pricing",
        "set by hand: input: list 2 -&gt; 2.5, override 1.5 per 1,000,000", "input: 2 -&gt; 9 per 1,000,000 (+350.0%)",
    ):  # fmt: skip
        assert text in page
    assert PriceSheet.objects.count() == 3


def test_an_outlier_is_imported_only_when_it_is_confirmed(admin_page: Client, listed: Model) -> None:
    admin_page.post(reverse(IMPORT))
    dated = PriceSheet.objects.filter(valid_from=MARCH)
    assert [(sheet.model.name, sheet.status) for sheet in dated] == [("plain", "published")]
    admin_page.post(reverse(IMPORT), {"confirm_outliers": "on"})
    assert {(sheet.model.name, sheet.status) for sheet in dated.all()} == {("plain", "published"), ("steep", "draft")}
    count = PriceSheet.objects.count()
    admin_page.post(reverse(IMPORT), {"confirm_outliers": "on"})
    assert PriceSheet.objects.count() == count
    created_by = dated.get(status="draft").created_by
    assert created_by is not None
    assert created_by.username == "root"


def upload(client: Client, *lines: str, **options: str) -> str:
    file = SimpleUploadedFile("prices.csv", "\n".join([HEADER, *lines]).encode())
    return client.post(reverse(UPLOAD), {"file": file, **options}, follow=True).content.decode()


def test_a_file_is_taken_whole_or_not_at_all(admin_page: Client) -> None:
    factories.make_model(name="gpt-4")
    good = "gpt-4,list,2026-11-01,input,0.03,1000"
    page = upload(admin_page, good, "gpt-4,list,2026-11-01,output,<b>,1000")
    assert "Nothing was written" in page
    assert "row 3, amount_usd: &#x27;&lt;b&gt;&#x27; is not a decimal number" in page
    assert not PriceSheet.objects.exists()
    assert "1 sheet(s) published, 0 there already." in upload(admin_page, good, publish="on", reason="budget")
    assert PriceSheet.objects.get().reason == "budget"
    wrong = upload(admin_page, "gpt-4,list,2026-12-01,input,30,1000")
    assert "about 1000 times" in wrong
    assert "as drafts" in upload(admin_page, "gpt-4,list,2026-12-01,input,30,1000", confirm_outliers="on")


def test_a_file_that_is_not_text_or_too_large_is_refused(
    admin_page: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = admin_page.post(reverse(UPLOAD), {"file": SimpleUploadedFile("x.csv", b"\xff\xfe")})
    assert "not UTF-8" in answer.content.decode()
    monkeypatch.setattr(price_tools, "_MOST_BYTES", 3)
    answer = admin_page.post(reverse(UPLOAD), {"file": SimpleUploadedFile("x.csv", b"four")})
    assert "larger than" in answer.content.decode()


def test_the_download_is_what_the_upload_takes(admin_page: Client) -> None:
    sheet = factories.make_sheet(model=factories.make_model(name="gpt-4"))
    answer = admin_page.get(reverse(DOWNLOAD))
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    file = SimpleUploadedFile("prices.csv", answer.content)
    page = admin_page.post(reverse(UPLOAD), {"file": file, "publish": "on"}, follow=True).content.decode()
    # The factory's sheet has no content hash, so the books see another one for the same instant.
    assert "already has a published sheet" in page
    assert sheet.rates.count() == 2
    assert "Upload a CSV file" in admin_page.get(reverse("admin:ledger_pricesheet_changelist")).content.decode()


def test_whoever_may_not_add_prices_is_refused(db: None) -> None:
    client = Client()
    client.force_login(factories.make_user(staff=True))
    for name in (IMPORT, UPLOAD, DOWNLOAD):
        assert client.get(reverse(name)).status_code == 403


def test_publishing_shows_the_last_30_days_under_both_prices(admin_page: Client) -> None:
    current = factories.make_sheet()
    call_yesterday(current.model)
    start = timezone.now() + timedelta(days=9)
    admin_page.post(
        reverse("admin:ledger_pricesheet_new_price", args=[current.model_id]), start_form(start, book="override")
    )
    draft = PriceSheet.objects.get(status="draft")
    draft.rates.filter(meter="input").update(amount_usd=Decimal("0.01"))
    page = admin_page.get(reverse("admin:ledger_pricesheet_publish", args=[draft.pk])).content.decode()
    assert "last 30 days: 120 -&gt; 40 USD" in page
