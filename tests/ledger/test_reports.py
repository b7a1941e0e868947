"""Sums from the daily rollups."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from ledger import reports
from ledger.models import Call
from tests import factories
from tests.gateway.api.callers import make_spend

pytestmark = pytest.mark.django_db
NOVEMBER: dict[str, Any] = {"start": date(2026, 11, 1), "end": date(2026, 11, 30)}


def test_it_adds_the_slots_and_outcomes_of_a_group_to_the_last_digit() -> None:
    key, model = factories.make_key(), factories.make_model()
    make_spend(key=key, model=model, day=date(2026, 11, 1), slot=1, cost_usd="0.100000000001")
    make_spend(key=key, model=model, day=date(2026, 11, 2), slot=2, cost_usd="0.200000000002")
    make_spend(key=key, model=model, day=date(2026, 11, 30), slot=1, outcome="failed", calls=2, cost_usd="0")
    make_spend(
        key=key, model=model, day=date(2026, 11, 30), slot=0, calls=0, input_tokens=0, output_tokens=0, cost_usd="0",
        adjustments_usd=Decimal("-0.050000000003"),
    )  # fmt: skip
    [row] = reports.spend(group_by=["user"], **NOVEMBER)
    assert row.user == reports.Named(id=key.user_id, name=key.user.username)
    assert (row.calls, row.ok_calls, row.failed_calls, row.cancelled_calls) == (4, 2, 2, 0)
    assert (row.input_tokens, row.output_tokens) == (3000, 1500)
    assert row.cost_usd == Decimal("0.300000000003")
    assert row.adjustments_usd == Decimal("-0.050000000003")
    assert row.total_usd == Decimal("0.25")
    assert isinstance(row.calls, int)


def test_it_counts_every_outcome_as_answered_failed_or_cancelled() -> None:
    key, model = factories.make_key(), factories.make_model()
    for outcome in Call.Outcome.values:
        make_spend(key=key, model=model, day=date(2026, 11, 5), outcome=outcome)
    [row] = reports.spend(group_by=[], **NOVEMBER)
    assert (row.ok_calls, row.failed_calls, row.cancelled_calls, row.cached_calls) == (2, 3, 1, 1)
    assert row.cache_hit_rate == Decimal("0.5")
    assert row.calls == len(Call.Outcome.values)


def test_where_nothing_was_answered_the_hit_rate_is_zero() -> None:
    assert reports.Sums().cache_hit_rate == 0


def test_it_says_how_many_calls_have_no_known_cost() -> None:
    key, known, unknown = factories.make_key(), factories.make_model(name="a"), factories.make_model(name="b")
    make_spend(key=key, model=known, day=date(2026, 11, 5), calls=3, unpriced_calls=1, cost_usd="0.12")
    make_spend(key=key, model=unknown, day=date(2026, 11, 5), calls=2, unpriced_calls=2, cost_usd="0")
    rows = reports.spend(group_by=["model"], **NOVEMBER)
    assert [(row.unpriced_calls, row.cost_usd) for row in rows] == [(1, Decimal("0.12")), (2, Decimal(0))]
    assert reports.totals(rows).unpriced_calls == 3


def test_both_ends_of_the_period_are_included_and_nothing_beyond() -> None:
    key, model = factories.make_key(), factories.make_model()
    for day in (date(2026, 10, 31), date(2026, 11, 1), date(2026, 11, 30), date(2026, 12, 1)):
        make_spend(key=key, model=model, day=day)
    rows = reports.spend(group_by=["day"], **NOVEMBER)
    assert [row.day for row in rows] == [date(2026, 11, 1), date(2026, 11, 30)]


@pytest.mark.parametrize("group_by", [["user", "day"], ["day", "user"], ["model", "key", "team", "provider"]])
def test_every_grouping_adds_up_to_the_same_totals(group_by: list[str]) -> None:
    models = [factories.make_model(), factories.make_model()]
    for number, key in enumerate([factories.make_key(), factories.make_key(team=factories.make_team())]):
        for model in models:
            for day in (1, 2):
                make_spend(key=key, model=model, day=date(2026, 11, day), cost_usd=f"{number}.00000000000{day}")
    rows = reports.spend(group_by=group_by, **NOVEMBER)
    [whole] = reports.spend(group_by=[], **NOVEMBER)
    assert reports.totals(rows) == reports.totals([whole])
    assert whole.cost_usd == Decimal("4.000000000012")


def test_rows_stand_in_the_order_of_their_groups() -> None:
    model = factories.make_model()
    for username in ("Zoe", "adam", "Bert"):
        key = factories.make_key(user=factories.make_user(username=username))
        for day in (2, 1):
            make_spend(key=key, model=model, day=date(2026, 11, day))
    rows = reports.spend(group_by=["user", "day"], **NOVEMBER)
    assert [(row.user.name, row.day.day) for row in rows if row.user and row.day] == [
        ("adam", 1), ("adam", 2), ("Bert", 1), ("Bert", 2), ("Zoe", 1), ("Zoe", 2),
    ]  # fmt: skip


def test_calls_of_no_team_are_a_group_without_a_name_and_can_be_asked_for() -> None:
    team, model = factories.make_team(name="red"), factories.make_model()
    make_spend(key=factories.make_key(), model=model, day=date(2026, 11, 5))
    make_spend(key=factories.make_key(team=team), model=model, day=date(2026, 11, 5))
    rows = reports.spend(group_by=["team"], **NOVEMBER)
    assert [row.team for row in rows] == [reports.Named(id=None, name=""), reports.Named(id=team.pk, name="red")]
    assert len(reports.spend(group_by=["user"], filters={"team": None}, **NOVEMBER)) == 1


@pytest.mark.parametrize("dimension", ["user", "team", "key", "model", "provider"])
def test_a_filter_leaves_only_its_own(dimension: str) -> None:
    wanted, other = (factories.make_key(team=factories.make_team()) for _ in range(2))
    models = {wanted: factories.make_model(), other: factories.make_model()}
    for key, model in models.items():
        make_spend(key=key, model=model, day=date(2026, 11, 5), calls=7 if key is wanted else 1)
    identifier = {
        "user": wanted.user_id,
        "team": wanted.team_id,
        "key": wanted.pk,
        "model": models[wanted].pk,
        "provider": models[wanted].provider_id,
    }[dimension]
    for value in (identifier, [identifier]):
        assert [row.calls for row in reports.spend(group_by=[], filters={dimension: value}, **NOVEMBER)] == [7]


def test_nothing_recorded_is_no_rows_and_totals_of_zero() -> None:
    assert reports.spend(group_by=[], **NOVEMBER) == []
    assert reports.totals([]) == reports.Sums()


def test_it_refuses_what_it_does_not_know_and_names_it() -> None:
    with pytest.raises(reports.UnknownReport, match="'colour'") as caught:
        reports.spend(group_by=["colour"], **NOVEMBER)
    assert caught.value.param == "group_by"
    with pytest.raises(reports.UnknownReport, match="'tag'") as caught:
        reports.spend(group_by=[], filters={"tag": "x"}, **NOVEMBER)
    assert caught.value.param == "tag"
    with pytest.raises(reports.UnknownReport, match="ends before") as caught:
        reports.spend(group_by=[], start=date(2026, 11, 2), end=date(2026, 11, 1))
    assert caught.value.param == "from"


def test_it_refuses_more_rows_than_anybody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "MAX_ROWS", 1)
    key, model = factories.make_key(), factories.make_model()
    make_spend(key=key, model=model, day=date(2026, 11, 1))
    assert len(reports.spend(group_by=["day"], **NOVEMBER)) == 1
    make_spend(key=key, model=model, day=date(2026, 11, 2))
    with pytest.raises(reports.UnknownReport, match="More than 1 rows"):
        reports.spend(group_by=["day"], **NOVEMBER)


def test_it_never_reads_the_calls(django_assert_max_num_queries: Callable[[int], Any]) -> None:
    key, model = factories.make_key(), factories.make_model()
    make_spend(key=key, model=model, day=date(2026, 11, 1))
    with django_assert_max_num_queries(6) as queries:
        reports.spend(group_by=["user", "team", "key", "model", "provider", "day"], **NOVEMBER)
    assert not [query for query in queries.captured_queries if "ledger_call" in query["sql"]]
