from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ledger import ids
from ledger.models import Adjustment, Batch, Call, DailySpend, Hold, Writer
from tests.factories import make_call, make_key, make_model, make_sheet

LIST = "admin:ledger_call_changelist"


def change_url(call: Call) -> str:
    return reverse("admin:ledger_call_change", args=[call.pk])


def call_at(at: datetime, **fields: Any) -> Call:
    request = uuid.UUID(int=(ids.floor(at).int | 0x7 << 76 | 0x2 << 62 | uuid.uuid4().int & 0xFFFFFF00))
    return make_call(id=ids.call_id(request_id=request, attempt=1), **fields)


def test_a_call_shows_how_its_cost_came_about(admin_page: Client) -> None:
    sheet = make_sheet()
    call = make_call(model=sheet.model, price_sheet=sheet, raw_usage={"prompt_tokens": 1000}, tags={"app": "<b>x</b>"})
    Adjustment.objects.create(
        call=call, delta_usd=Decimal("-0.01"), counted_delta_usd=Decimal("-0.01"), reason="manual", note="a credit"
    )

    page = admin_page.get(change_url(call)).content.decode()

    assert "1,000 input tokens x 0.03 per 1,000 = 0.03" in page
    assert "500 output tokens x 0.06 per 1,000 = 0.03" in page
    assert "0.06 USD" in page
    assert "DIFFERS" not in page
    assert "a credit" in page
    assert "corrected: 0.05 USD" in page
    assert "&quot;prompt_tokens&quot;: 1000" in page
    assert "<b>x</b>" not in page


def test_a_cost_that_its_lines_do_not_give_is_pointed_at(admin_page: Client) -> None:
    sheet = make_sheet()
    call = make_call(model=sheet.model, price_sheet=sheet, cost_usd=Decimal("0.07"))

    assert "DIFFERS" in admin_page.get(change_url(call)).content.decode()


def test_a_call_is_read_and_rated_once_a_page(admin_page: Client) -> None:
    sheet = make_sheet()
    call = make_call(model=sheet.model, price_sheet=sheet)

    with CaptureQueriesContext(connection) as queries:
        admin_page.get(change_url(call))

    asked = [query["sql"] for query in queries.captured_queries]
    assert len([sql for sql in asked if 'FROM "ledger_adjustment"' in sql]) == 1
    assert len([sql for sql in asked if 'FROM "ledger_call"' in sql]) == 2


def test_the_list_offers_who_spent_lately_and_who_is_asked_for(admin_page: Client) -> None:
    today = datetime.now(UTC).date()
    lately, long_ago, never = make_key(), make_key(), make_key()
    for key, day in ((lately, today), (long_ago, today - timedelta(days=60))):
        model = make_model()
        DailySpend.objects.create(
            day=day, user=key.user, key=key, model=model, provider=model.provider, outcome="ok", slot=1, calls=1
        )

    def offered(**query: int) -> set[int]:
        page = admin_page.get(reverse(LIST), query).content.decode()
        return {key.pk for key in (lately, long_ago, never) if f"?key={key.pk}" in page or f"key={key.pk}&" in page}

    assert offered() == {lately.pk}
    assert offered(key=never.pk) == {lately.pk, never.pk}


def test_an_unknown_cost_is_unknown_and_never_zero(admin_page: Client) -> None:
    call = make_call(cost_usd=None, cost_source="unknown", unpriced_reason="no published price")

    for url in (reverse(LIST), change_url(call)):
        page = admin_page.get(url).content.decode()
        assert "unknown (no published price)" in page
        assert "0.00" not in page


def test_calls_cannot_be_added_changed_or_deleted(admin_page: Client) -> None:
    call = make_call()
    before = Call.objects.values().get()

    answers = [
        admin_page.post(change_url(call), {"cost_usd": "0", "outcome": "failed"}),
        admin_page.post(reverse("admin:ledger_call_delete", args=[call.pk]), {"post": "yes"}),
        admin_page.post(reverse("admin:ledger_call_add"), {}),
        admin_page.post(reverse(LIST), {"action": "delete_selected", "_selected_action": [call.pk], "post": "yes"}),
    ]

    assert [answer.status_code for answer in answers[:3]] == [403, 403, 403]
    assert Call.objects.values().get() == before


def test_the_list_reads_no_more_for_more_calls_and_counts_no_table(admin_page: Client) -> None:
    for _ in range(3):
        make_call()
    admin_page.get(reverse(LIST))
    with CaptureQueriesContext(connection) as few:
        admin_page.get(reverse(LIST))
    for _ in range(10):
        make_call()
    with CaptureQueriesContext(connection) as many:
        admin_page.get(reverse(LIST))

    assert len(many) == len(few)
    on_calls = [query["sql"] for query in many.captured_queries if 'FROM "ledger_call"' in query["sql"]]
    assert on_calls
    assert not [sql for sql in on_calls if "COUNT(" in sql or "DISTINCT" in sql]
    assert all('"ledger_call"."id" >=' in sql for sql in on_calls)
    assert any("LIMIT 1000" in sql for sql in on_calls)


@pytest.mark.parametrize("what", ["call", "request", "upstream"])
def test_a_search_finds_by_exact_id_whatever_the_day(what: str, admin_page: Client) -> None:
    wanted = call_at(datetime.now(UTC) - timedelta(days=20), upstream_request_id="req_42")
    other = make_call(upstream_request_id="req_421")
    term = {"call": str(wanted.id), "request": str(wanted.request_id), "upstream": "req_42"}[what]

    page = admin_page.get(reverse(LIST), {"q": term}).content.decode()

    assert change_url(wanted) in page
    assert change_url(other) not in page


@pytest.mark.parametrize("term", ["zzz", "00000000-0000-0000-0000-000000000000", "'; DROP TABLE x; --"])
def test_an_odd_search_finds_nothing(term: str, admin_page: Client) -> None:
    call = make_call()

    answer = admin_page.get(reverse(LIST), {"q": term})

    assert answer.status_code == 200
    assert change_url(call) not in answer.content.decode()


def test_filters_narrow_the_list(admin_page: Client) -> None:
    mine = make_call(key=make_key(), outcome="failed")
    other = make_call()

    for query in (
        {"user": mine.user_id},
        {"key": mine.key_id},
        {"model": mine.model_id},
        {"outcome__exact": "failed"},
    ):
        page = admin_page.get(reverse(LIST), query).content.decode()
        assert change_url(mine) in page, query
        assert change_url(other) not in page, query


def test_days_are_ranges_of_ids(admin_page: Client) -> None:
    now = datetime.now(UTC)
    old, new = call_at(now - timedelta(days=20)), make_call()
    day = f"{now - timedelta(days=20):%Y-%m-%d}"

    shown = {
        query: (change_url(old) in page, change_url(new) in page)
        for query in ("", "today", "31", "any", day)
        for page in [admin_page.get(reverse(LIST), {"day": query} if query else {}).content.decode()]
    }

    assert shown == {
        "": (False, True),
        "today": (False, True),
        "31": (True, True),
        "any": (True, True),
        day: (True, False),
    }


@pytest.mark.parametrize("query", [{"user": "x"}, {"user": "9" * 30}, {"day": "0001-01-01"}, {"day": "9999-12-31"}])
def test_an_odd_filter_does_not_break_the_page(query: dict[str, str], admin_page: Client) -> None:
    assert admin_page.get(reverse(LIST), query).status_code == 200


def test_all_attempts_of_a_request_are_linked(admin_page: Client) -> None:
    first: Any = make_call(outcome="failed", http_status=500)
    second = make_call(id=ids.call_id(request_id=first.request_id, attempt=2), key=first.key, model=first.model)

    page = admin_page.get(change_url(first)).content.decode()

    assert change_url(second) in page


@pytest.fixture
def book_rows(db: None) -> dict[str, Any]:
    call: Any = make_call()
    now = datetime.now(UTC)
    writer = Writer.objects.create(
        id=uuid.uuid4(), slot=1, host="h", pid=1, started_at=now, lease_until=now, head=b"\x01" * 32
    )
    request_id = ids.new_request_id()
    return {
        "adjustment": Adjustment.objects.create(
            call=call, delta_usd=Decimal("0.01"), counted_delta_usd=Decimal("0.01"), reason="manual"
        ),
        "batch": Batch.objects.create(
            writer=writer, seq=1, count=1, previous_hash=b"\x00" * 32, hash=b"\xab" * 32, committed_at=now
        ),
        "writer": writer,
        "hold": Hold.objects.create(
            id=ids.call_id(request_id=request_id, attempt=1),
            request_id=request_id,
            attempt=1,
            writer=writer,
            key=call.key,
            user=call.user,
            model=call.model,
            provider=call.provider,
            surface="chat",
            requested_name="m",
            streamed=False,
            bound_usd=None,
            bound_tokens=5,
            windows=[],
            dispatched=False,
            held_at=now,
            deadline=now,
        ),
    }


@pytest.mark.parametrize("table", ["adjustment", "batch", "writer", "hold"])
def test_the_books_can_be_looked_at_and_not_touched(table: str, admin_page: Client, book_rows: dict[str, Any]) -> None:
    row = book_rows[table]
    change = reverse(f"admin:ledger_{table}_change", args=[row.pk])

    assert admin_page.get(reverse(f"admin:ledger_{table}_changelist")).status_code == 200
    assert admin_page.get(change).status_code == 200
    assert admin_page.post(change, {}).status_code == 403
    assert admin_page.post(reverse(f"admin:ledger_{table}_add"), {}).status_code == 403
    assert admin_page.post(reverse(f"admin:ledger_{table}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403


def test_a_model_of_a_provider_with_an_unreadable_credential_still_shows(admin_page: Client, settings: Any) -> None:
    from cryptography.fernet import Fernet

    model = make_model()
    model.provider.credential_secret = "sk-planted"
    model.provider.save()
    call = make_call(model=model)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]

    assert admin_page.get(reverse(LIST)).status_code == 200
    assert admin_page.get(change_url(call)).status_code == 200
