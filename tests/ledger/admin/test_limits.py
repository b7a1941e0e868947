from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from ledger.models import Limit, LimitWindow
from tests.factories import make_limit, make_user

LIST = "admin:ledger_limit_changelist"


def limit_form(**changes: Any) -> dict[str, Any]:
    return {
        "subject": "everyone",
        "metric": "usd",
        "period": "day",
        "amount": "10",
        "action": "block",
        "mode": "strict",
        "alert_thresholds": "80,95",
        "enabled": "on",
        **changes,
    }


def window_of(limit: Limit, *, used: str, held: str) -> LimitWindow:
    """The window of the period that is running now."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_period_start(%s, %s)", [limit.period, timezone.now()])
        [starts_at] = cursor.fetchone()
    return LimitWindow.objects.create(limit=limit, starts_at=starts_at, used=used, held=held)


def test_a_limit_shows_what_is_used_held_and_left(admin_page: Client) -> None:
    limit = make_limit(user=make_user(username="alice"), amount="10", period="month")
    window_of(limit, used="1.25", held="0.75")

    for url in (reverse(LIST), reverse("admin:ledger_limit_change", args=[limit.pk])):
        page = admin_page.get(url).content.decode()
        for number in (">1.25<", ">0.75<", ">8<"):
            assert number in page, (url, number)


def test_pages_open_without_windows(admin_page: Client) -> None:
    limit = make_limit(metric="concurrency", period="total", amount="5")

    for url in (
        reverse(LIST),
        reverse("admin:ledger_limit_add"),
        reverse("admin:ledger_limit_change", args=[limit.pk]),
    ):
        assert admin_page.get(url).status_code == 200


def test_a_limit_is_made_and_changed(admin_page: Client) -> None:
    user = make_user()

    made = admin_page.post(reverse("admin:ledger_limit_add"), limit_form(subject="user", user=user.pk))
    limit = Limit.objects.get()
    assert made.status_code == 302
    assert (limit.user, limit.amount, limit.alert_thresholds) == (user, Decimal(10), [80, 95])

    url = reverse("admin:ledger_limit_change", args=[limit.pk])
    admin_page.post(url, limit_form(subject="user", user=user.pk, amount="3.5"))
    assert str(Limit.objects.get().amount.normalize()) == "3.5"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject": "user"}, "Choose the user that this limit is for."),
        ({"amount": "-1"}, "A limit cannot be negative."),
        ({"metric": "concurrency"}, "A limit on concurrent calls has the period"),
        ({"subject": "planet"}, "Select a valid choice"),
    ],
)
def test_a_wrong_limit_is_refused_with_a_message(changes: dict[str, str], message: str, admin_page: Client) -> None:
    answer = admin_page.post(reverse("admin:ledger_limit_add"), limit_form(**changes))

    assert message in answer.content.decode()
    assert not Limit.objects.exists()


def test_a_subject_that_is_not_named_stays_empty(admin_page: Client) -> None:
    answer = admin_page.post(reverse("admin:ledger_limit_add"), limit_form(user=make_user().pk))

    assert "Leave this empty" in answer.content.decode()
    assert not Limit.objects.exists()


def test_the_same_limit_twice_is_refused_with_a_message(admin_page: Client) -> None:
    make_limit()

    answer = admin_page.post(reverse("admin:ledger_limit_add"), limit_form())

    assert "already has a limit on this metric and period" in answer.content.decode()
    assert Limit.objects.count() == 1


def test_a_limit_that_counted_something_is_not_deleted(admin_page: Client) -> None:
    used, unused = make_limit(), make_limit(metric="tokens")
    window_of(used, used="1", held="0")

    refused = admin_page.post(reverse("admin:ledger_limit_delete", args=[used.pk]), {"post": "yes"})
    admin_page.post(reverse("admin:ledger_limit_delete", args=[unused.pk]), {"post": "yes"})

    assert refused.status_code == 403
    assert list(Limit.objects.all()) == [used]
