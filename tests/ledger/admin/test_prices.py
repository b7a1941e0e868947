from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ledger.models import PriceSheet, Rate
from ledger.prices import calculate_cost
from tests.factories import make_model, make_sheet, make_user

NOON = (timezone.now() + timedelta(days=10)).replace(hour=12, minute=0, second=0, microsecond=0)


def start_form(at: datetime, **values: str) -> dict[str, str]:
    return {"valid_from_0": f"{at:%Y-%m-%d}", "valid_from_1": f"{at:%H:%M:%S}", **values}


def rates_form(sheet: PriceSheet, *amounts: str) -> dict[str, Any]:
    """The change form of a draft whose rates, in the order of the page, shall have these amounts."""
    form: dict[str, Any] = {
        **start_form(sheet.valid_from),
        "model": sheet.model_id,
        "book": sheet.book,
        "source": sheet.source,
        "rates-TOTAL_FORMS": len(amounts),
        "rates-INITIAL_FORMS": sheet.rates.count(),
    }
    for index, (rate, amount) in enumerate(zip(sheet.rates.all(), amounts, strict=True)):
        form |= {f"rates-{index}-{name}": value for name, value in rate_row(rate).items()}
        form |= {f"rates-{index}-id": rate.pk, f"rates-{index}-sheet": sheet.pk, f"rates-{index}-amount_usd": amount}
    return form


def rate_row(rate: Rate) -> dict[str, Any]:
    return {"meter": rate.meter, "per": rate.per, "above_tokens": 0, "weekdays": 127, "minimum": 0, "quantum": 0}


def change_url(sheet: PriceSheet) -> str:
    return reverse("admin:ledger_pricesheet_change", args=[sheet.pk])


def cost_at(sheet: PriceSheet, at: datetime) -> Decimal | None:
    return calculate_cost(sheet.model, {"input": 1000, "output": 500}, at).cost_usd


def test_a_new_price_is_published_from_a_date_and_then_frozen(admin_page: Client) -> None:
    current = make_sheet()
    assert cost_at(current, NOON) == Decimal("0.06")

    model_page = admin_page.get(reverse("admin:providers_model_change", args=[current.model_id])).content.decode()
    new_price = reverse("admin:ledger_pricesheet_new_price", args=[current.model_id])
    assert new_price in model_page
    assert "input 30, output 60" in model_page

    answer = admin_page.post(new_price, start_form(NOON, book="override"))
    draft = PriceSheet.objects.get(status="draft")
    assert answer["Location"] == change_url(draft)
    assert {rate.meter: rate.amount_usd for rate in draft.rates.all()} == {
        "input": Decimal("0.03"),
        "output": Decimal("0.06"),
    }

    saved = admin_page.post(change_url(draft), rates_form(draft, "0.02", "0.12"))
    assert saved.status_code == 302, saved.content.decode()
    publish = reverse("admin:ledger_pricesheet_publish", args=[draft.pk])
    shown = admin_page.get(publish).content.decode()
    assert "-33.33 %" in shown
    assert "+100.00 %" in shown

    admin_page.post(publish, start_form(NOON, reason="cheaper input"))

    draft.refresh_from_db()
    assert (draft.status, draft.reason, draft.valid_from) == ("published", "cheaper input", NOON)
    assert draft.published_by is not None
    assert draft.published_by.username == "root"
    assert cost_at(current, NOON) == Decimal("0.08")
    assert cost_at(current, NOON - timedelta(seconds=1)) == Decimal("0.06")

    refused = admin_page.post(change_url(draft), rates_form(draft, "0.01", "0.01"))
    assert refused.status_code == 403
    assert admin_page.post(publish, start_form(NOON, reason="again")).status_code == 403
    delete = reverse("admin:ledger_pricesheet_delete", args=[draft.pk])
    assert admin_page.post(delete, {"post": "yes"}).status_code == 403
    assert cost_at(current, NOON) == Decimal("0.08")


def test_every_page_of_prices_opens(admin_page: Client) -> None:
    published = make_sheet()
    draft = make_sheet(model=published.model, published=False, source="admin")

    for url in (
        reverse("admin:ledger_pricesheet_changelist"),
        reverse("admin:ledger_pricesheet_changelist") + f"?model={published.model_id}",
        reverse("admin:ledger_pricesheet_add"),
        reverse("admin:ledger_pricesheet_new_price", args=[published.model_id]),
        reverse("admin:ledger_pricesheet_publish", args=[draft.pk]),
        change_url(published),
        change_url(draft),
    ):
        assert admin_page.get(url).status_code == 200, url


def test_the_list_of_one_model_holds_its_sheets_only(admin_page: Client) -> None:
    mine, other = make_sheet(), make_sheet()

    page = admin_page.get(reverse("admin:ledger_pricesheet_changelist") + f"?model={mine.model_id}").content.decode()

    assert change_url(mine) in page
    assert change_url(other) not in page


def test_publishing_below_a_book_in_force_says_that_it_will_price_nothing(admin_page: Client) -> None:
    contract = make_sheet(book="contract")
    admin_page.post(
        reverse("admin:ledger_pricesheet_new_price", args=[contract.model_id]), start_form(NOON, book="override")
    )
    draft = PriceSheet.objects.get(status="draft")
    publish = reverse("admin:ledger_pricesheet_publish", args=[draft.pk])
    warning = f"This will price no call as long as {contract} is in force: book “contract” stands above “override”."
    assert warning in admin_page.get(publish).content.decode()
    PriceSheet.objects.filter(pk=draft.pk).update(book="contract")
    assert "will price no call" not in admin_page.get(publish).content.decode()


def test_a_correction_leads_to_a_re_rating_with_the_prices_then_in_force(admin_page: Client) -> None:
    sheet = make_sheet(model=make_model(name="a&b #1"))
    past = timezone.now() - timedelta(days=3)
    admin_page.post(
        reverse("admin:ledger_pricesheet_new_price", args=[sheet.model_id]), start_form(past, book="override")
    )
    draft = PriceSheet.objects.get(status="draft")
    publish = reverse("admin:ledger_pricesheet_publish", args=[draft.pk])
    page = admin_page.post(publish, start_form(past, reason="a typing error", correction="on"), follow=True)
    [address] = re.findall(r'href="([^"]+)">Re-rate the calls since', page.content.decode())
    form = admin_page.get(html.unescape(address)).context["form"]
    assert {name: form[name].value() for name in form.fields} == {
        "model": "a&b #1", "start": f"{past:%Y-%m-%d}", "end": f"{timezone.now():%Y-%m-%d}", "sheet": "",
        "reason": "a typing error",
    }  # fmt: skip


def test_a_past_start_is_refused_unless_it_is_a_correction(admin_page: Client) -> None:
    draft = make_sheet(published=False, source="admin", book="override")
    past = datetime(2026, 1, 1, tzinfo=UTC)
    publish = reverse("admin:ledger_pricesheet_publish", args=[draft.pk])

    refused = admin_page.post(publish, start_form(past, reason="late"))
    draft.refresh_from_db()
    assert "publish a correction" in refused.content.decode()
    assert draft.status == "draft"
    assert draft.valid_from != past

    admin_page.post(publish, start_form(past, reason="late", correction="on"))
    draft.refresh_from_db()
    assert (draft.status, draft.is_correction, draft.valid_from) == ("published", True, past)


def test_publishing_needs_a_reason(admin_page: Client) -> None:
    draft = make_sheet(published=False, source="admin", book="override")

    admin_page.post(reverse("admin:ledger_pricesheet_publish", args=[draft.pk]), start_form(NOON, reason=""))

    draft.refresh_from_db()
    assert draft.status == "draft"


def test_a_slip_of_the_unit_is_pointed_at(admin_page: Client) -> None:
    current = make_sheet(rates={"input": "0.03"})
    draft = make_sheet(
        model=current.model, rates={"input": "0.03"}, per=1, published=False, source="admin", valid_from=NOON
    )

    page = admin_page.get(reverse("admin:ledger_pricesheet_publish", args=[draft.pk])).content.decode()

    assert "about x1000: check the unit" in page


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("amount_usd", "-1", "A rate cannot be negative."),
        ("amount_usd", "0", "A zero rate needs a reason"),
        ("per", "7", "A rate is per 1, 10, 100"),
        ("meter", "output", "two rates for &#x27;output&#x27; apply under the same conditions"),
        ("meter", "inptu", "Select a valid choice"),
    ],
)
def test_a_bad_rate_is_refused_with_a_message(field: str, value: str, message: str, admin_page: Client) -> None:
    draft = make_sheet(published=False, source="admin")
    form = rates_form(draft, "0.5", "0.6") | {f"rates-0-{field}": value}

    answer = admin_page.post(change_url(draft), form)

    assert answer.status_code == 200
    assert message in answer.content.decode()
    assert draft.rates.filter(amount_usd=Decimal("0.03")).exists()


def test_a_person_who_may_only_look_cannot_publish(db: None) -> None:
    draft = make_sheet(published=False, source="admin", book="override")
    client = Client()
    client.force_login(make_user(staff=True))

    answer = client.post(reverse("admin:ledger_pricesheet_publish", args=[draft.pk]), start_form(NOON, reason="x"))
    new = client.post(
        reverse("admin:ledger_pricesheet_new_price", args=[make_model().pk]), start_form(NOON, book="override")
    )

    draft.refresh_from_db()
    assert (answer.status_code, new.status_code, draft.status) == (403, 403, "draft")
    assert PriceSheet.objects.count() == 1
