from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from ledger.models import ApiKey, DailySpend
from tests.factories import make_key, make_model, make_user

PAGE = "admin:ledger_dailyspend_changelist"


def spend(key: ApiKey, *, day: date, cost: str, **fields: Any) -> DailySpend:
    model = make_model()
    values = {"outcome": "ok", "slot": 1, "calls": 2, "input_tokens": 1000, "output_tokens": 500, **fields}
    return DailySpend.objects.create(
        day=day, user=key.user, key=key, model=model, provider=model.provider, cost_usd=Decimal(cost), **values
    )


def ask(page: Client, **query: Any) -> str:
    answer = page.get(reverse(PAGE), {"start": "2026-06-01", "end": "2026-06-30", "group_by": ["user"], **query})
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_spend_is_told_per_user_with_exact_totals(admin_page: Client) -> None:
    alice, bob = make_key(user=make_user(username="alice")), make_key(user=make_user(username="bob"))
    spend(alice, day=date(2026, 6, 1), cost="0.000000000001")
    spend(alice, day=date(2026, 6, 30), cost="1.1", adjustments_usd=Decimal("-0.1"))
    spend(bob, day=date(2026, 6, 2), cost="2")
    spend(bob, day=date(2026, 7, 1), cost="40")

    page = ask(admin_page)

    assert ">alice<" in page
    assert ">1.100000000001<" in page
    assert ">1.000000000001<" in page
    assert ">3.100000000001<" in page
    assert ">3.000000000001<" in page
    assert "42" not in page.split("<tfoot>")[1]
    assert "/api/spend/?group_by=user&amp;from=2026-06-01&amp;to=2026-06-30&amp;format=csv" in page


def test_spend_is_grouped_by_what_was_asked_for(admin_page: Client) -> None:
    key = make_key(user=make_user(username="alice"))
    row = spend(key, day=date(2026, 6, 1), cost="1")

    page = ask(admin_page, group_by=["model", "day", "team"])

    assert f">{row.model}<" in page
    assert ">June 1, 2026<" in page or ">2026-06-01<" in page
    assert ">none<" in page
    assert ">alice<" not in page.split("<thead>")[1]


def test_unknown_cost_is_not_zero(admin_page: Client) -> None:
    spend(make_key(), day=date(2026, 6, 1), cost="0", calls=3, unpriced_calls=3)

    table = ask(admin_page).split("<tbody>")[1]

    # The cost and the total, of the row and of all rows.
    assert table.count(">unknown<") == 4
    assert ">3<" in table


def test_the_first_visit_shows_this_month(admin_page: Client) -> None:
    answer = admin_page.get(reverse(PAGE))

    assert answer.status_code == 200
    assert "<tfoot>" in answer.content.decode()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"start": "2026-07-01"}, "The period ends before it begins."),
        ({"start": "never"}, "Enter a valid date."),
        ({"group_by": ["colour"]}, "Select a valid choice"),
        ({"group_by": []}, "This field is required"),
    ],
)
def test_an_odd_question_is_explained(query: dict[str, Any], message: str, admin_page: Client) -> None:
    page = ask(admin_page, **query)

    assert message in page
    assert "<tfoot>" not in page


def test_the_earliest_period_has_none_before(admin_page: Client) -> None:
    assert "The period before" not in ask(admin_page, start="0001-01-01", end="0001-01-02")


def test_spend_is_for_those_who_may_view_it(db: None) -> None:
    client = Client()
    client.force_login(make_user(staff=True))

    assert client.get(reverse(PAGE)).status_code == 403


def test_markup_in_a_user_name_is_text(admin_page: Client) -> None:
    spend(make_key(user=make_user(username="<script>x</script>")), day=date(2026, 6, 1), cost="1")

    assert "<script>x</script>" not in ask(admin_page)
