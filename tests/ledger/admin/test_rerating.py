"""Re-rating in the admin: preview, look, apply."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.test import Client
from django.urls import reverse

from ledger import rerate_runs
from ledger.models import Adjustment, PriceSheet, RerateRun
from tests import factories
from tests.ledger.test_rerate import NOON, make_call

NEW = "admin:ledger_reraterun_new"
FORM = {"model": "gpt-4", "start": "2026-11-01", "end": "2026-11-30", "reason": "the list was wrong"}


@pytest.fixture
def right(db: None) -> PriceSheet:
    """A call charged at 0.06, and the price that makes it 0.05."""
    sheet = factories.make_sheet(model=factories.make_model(name="gpt-4"))
    key = factories.make_key(user=factories.make_user(username="ada"), team=factories.make_team(name="search"))
    make_call(sheet.model, sheet=sheet, key=key)
    return factories.make_sheet(model=sheet.model, book="override", rates={"input": "0.02", "output": "0.06"})


def work() -> None:
    """What the background thread does once the request's transaction is over."""
    rerate_runs.work_on_open_runs()


def test_a_preview_is_looked_at_and_then_applied(admin_page: Client, right: PriceSheet) -> None:
    asked = admin_page.post(reverse(NEW), FORM)
    preview = RerateRun.objects.get()
    page_url = reverse("admin:ledger_reraterun_change", args=[preview.pk])
    assert asked["Location"] == page_url
    assert "Wait" in admin_page.get(page_url).content.decode()
    work()
    page = admin_page.get(page_url).content.decode()
    for text in ("ada", "search", "-0.01", "1 of about 1", "Write these changes"):
        assert text in page
    assert not Adjustment.objects.exists()

    apply_url = reverse("admin:ledger_reraterun_apply", args=[preview.pk])
    assert "Write 1 adjustments of -0.01 USD in all" in admin_page.get(apply_url).content.decode()
    applied = admin_page.post(apply_url)
    work()
    adjustment = Adjustment.objects.get()
    assert adjustment.delta_usd == Decimal("-0.01")
    assert adjustment.actor is not None
    assert adjustment.actor.username == "root"
    assert "Write these changes" not in admin_page.get(applied["Location"]).content.decode()
    assert admin_page.get(reverse("admin:ledger_reraterun_changelist")).status_code == 200


def test_the_list_of_sheets_leads_there(admin_page: Client, right: PriceSheet) -> None:
    action = {"action": "rerate", "_selected_action": [right.pk]}
    sheets = reverse("admin:ledger_pricesheet_changelist")
    found = admin_page.post(sheets, action)["Location"]
    assert found == f"{reverse(NEW)}?model=gpt-4&sheet={right.pk}&start=2025-01-01"
    assert f'value="{right.pk}"' in admin_page.get(found).content.decode()
    draft = factories.make_sheet(published=False)
    refused = admin_page.post(sheets, {"action": "rerate", "_selected_action": [draft.pk]}, follow=True)
    assert "Choose one published price sheet" in refused.content.decode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "gpt-5"}, "There is no model"),
        ({"end": "2026-10-01"}, "ends before it begins"),
        ({"sheet": "999"}, "no published price sheet 999"),
        ({"end": "9999-12-31"}, "out of range"),
    ],
)
def test_what_cannot_be_done_is_said(
    admin_page: Client, right: PriceSheet, change: dict[str, str], message: str
) -> None:
    assert message in admin_page.post(reverse(NEW), FORM | change).content.decode()
    assert not RerateRun.objects.exists()


def test_whoever_may_not_add_runs_is_refused(right: PriceSheet) -> None:
    client = Client()
    client.force_login(factories.make_user(staff=True))
    run = RerateRun.objects.create(
        model=right.model, start=NOON, end=NOON.replace(day=19), state="done", finished_at=NOON
    )
    assert client.get(reverse(NEW)).status_code == 403
    assert client.post(reverse("admin:ledger_reraterun_apply", args=[run.pk])).status_code == 403


def test_a_run_that_was_applied_cannot_be_applied_again(admin_page: Client, right: PriceSheet) -> None:
    run = RerateRun.objects.create(
        model=right.model, start=NOON, end=NOON.replace(day=19), state="done", finished_at=NOON, applies=True
    )
    assert admin_page.post(reverse("admin:ledger_reraterun_apply", args=[run.pk])).status_code == 404
