"""The SQL functions that write the ledger, called without Python: order, replay, fence, admission, settlement."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import DatabaseError

from ledger.models import Adjustment, Batch, Call, DailySpend, Hold, Limit, LimitWindow, Writer
from tests import factories
from tests.ledger.rows import Pen, make_hold, make_settle

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> dict[str, Any]:
    """A key and a model: what every hold names."""
    return {"key": factories.make_key(team=factories.make_team()), "model": factories.make_model()}


def window(limit: Limit) -> tuple[Any, Any]:
    """(used, held), which are compared with whole numbers, too."""
    found = LimitWindow.objects.get(limit=limit)
    return found.used, found.held


def refused_by(answer: dict[str, Any] | None) -> dict[str, Any]:
    return {} if answer is None else answer["refused"]


# --- order and replay -----------------------------------------------------------------------------------------


def test_a_batch_sent_twice_is_written_once_and_answered_alike(world: dict[str, Any]) -> None:
    limit = factories.make_limit(metric="requests", amount="1", key=world["key"])
    pen, holds = Pen(), [make_hold(limits=(limit,), **world) for _ in range(2)]
    first = pen.write(holds=holds)
    assert pen.write(holds=holds, seq=pen.seq) == first
    assert list(refused_by(first)) == ["2"]
    assert Hold.objects.count() == 1
    assert window(limit) == (0, 1)


def test_another_batch_under_the_same_number_is_refused(world: dict[str, Any]) -> None:
    pen = Pen()
    pen.write(holds=[make_hold(**world)])
    with pytest.raises(DatabaseError, match="is at seq 1, not 0"), transaction.atomic():
        pen.write(holds=[make_hold(**world)], seq=1)
    assert Hold.objects.count() == 1


def test_a_gap_in_the_numbers_is_refused(world: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError, match="is at seq 0, not 2"), transaction.atomic():
        Pen().write(holds=[make_hold(**world)], seq=3)


@pytest.mark.parametrize("state", ["fenced", "closed"])
def test_a_writer_that_is_not_live_is_refused(world: dict[str, Any], state: str) -> None:
    pen = Pen()
    Writer.objects.filter(pk=pen.id).update(state=state)
    with pytest.raises(DatabaseError, match=f"is {state}: its lease ran out"), transaction.atomic():
        pen.write(holds=[make_hold(**world)])
    assert Hold.objects.count() == 0


def test_a_fenced_writer_may_still_ask_for_its_last_answer(world: dict[str, Any]) -> None:
    pen, holds = Pen(), [make_hold(**world)]
    pen.write(holds=holds)
    Writer.objects.filter(pk=pen.id).update(state="fenced")
    assert pen.write(holds=holds, seq=1) is None
    assert Hold.objects.count() == 1


def test_a_writer_nobody_knows_is_refused(world: dict[str, Any]) -> None:
    pen = Pen()
    Writer.objects.filter(pk=pen.id).delete()
    with pytest.raises(DatabaseError, match="is not registered"), transaction.atomic():
        pen.write(holds=[make_hold(**world)])


def test_only_a_lease_that_ran_out_is_fenced() -> None:
    late, live = Pen(lease_s=-10), Pen(lease_s=60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT ledger_fence(5)")
        assert [row[0] for row in cursor.fetchall()] == [late.id]
        cursor.execute("SELECT ledger_fence(5)")
        assert cursor.fetchall() == []
    assert Writer.objects.get(pk=live.id).state == "live"


def test_live_writers_have_slots_of_their_own_and_leave_them() -> None:
    first, second = Pen(), Pen()
    slots = [Writer.objects.get(pk=pen.id).slot for pen in (first, second)]
    assert len(set(slots)) == 2
    Writer.objects.filter(pk=first.id).update(state="closed")
    assert Writer.objects.get(pk=Pen().id).slot == slots[0]


# --- admission ------------------------------------------------------------------------------------------------


def test_a_limit_admits_exactly_what_fits(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="3", key=world["key"])
    answer = Pen().write(holds=[make_hold(limits=(limit,), **world) for _ in range(5)])
    assert refused_by(answer) == {
        "4": {"limit": limit.pk, "why": "limit"},
        "5": {"limit": limit.pk, "why": "limit"},
    }
    assert window(limit) == (0, 3)
    assert Hold.objects.count() == 3


def test_a_smaller_call_behind_a_refused_one_may_still_pass(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="3", key=world["key"])
    holds = [make_hold(limits=(limit,), usd=Decimal(usd), **world) for usd in ("2", "2", "1")]
    assert list(refused_by(Pen().write(holds=holds))) == ["2"]
    assert window(limit) == (0, 3)


def test_a_refused_hold_takes_no_room_of_its_other_limits(world: dict[str, Any]) -> None:
    wide = factories.make_limit(amount="100", key=world["key"])
    tight = factories.make_limit(metric="tokens", amount="99", key=world["key"])
    answer = Pen().write(holds=[make_hold(limits=(wide, tight), **world)])
    assert refused_by(answer) == {"1": {"limit": tight.pk, "why": "limit"}}
    assert (window(wide), window(tight)) == ((0, 0), (0, 0))


@pytest.mark.parametrize(("metric", "held"), [("usd", "1"), ("tokens", "100"), ("requests", "1"), ("concurrency", "1")])
def test_each_metric_holds_its_own_measure(world: dict[str, Any], metric: str, held: str) -> None:
    period = "total" if metric == "concurrency" else "day"
    limit = factories.make_limit(metric=metric, period=period, amount="1000", key=world["key"])
    Pen().write(holds=[make_hold(limits=(limit,), **world)])
    assert window(limit) == (0, Decimal(held))


def test_a_hold_without_a_price_is_refused_by_a_usd_limit_only(world: dict[str, Any]) -> None:
    usd = factories.make_limit(amount="100", key=world["key"])
    tokens = factories.make_limit(metric="tokens", amount="100", key=world["key"])
    answer = Pen().write(holds=[make_hold(limits=(usd, tokens), usd=None, **world)])
    assert refused_by(answer) == {"1": {"limit": usd.pk, "why": "unpriced"}}
    assert refused_by(Pen().write(holds=[make_hold(limits=(tokens,), usd=None, **world)])) == {}


def test_a_limit_that_only_alerts_counts_past_its_amount(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="1", action="alert", key=world["key"])
    assert refused_by(Pen().write(holds=[make_hold(limits=(limit,), **world) for _ in range(3)])) == {}
    assert window(limit) == (0, 3)


def test_a_disabled_limit_neither_counts_nor_refuses(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="0", enabled=False, key=world["key"])
    assert refused_by(Pen().write(holds=[make_hold(limits=(limit,), **world)])) == {}
    assert not LimitWindow.objects.exists()


def test_room_given_back_in_a_batch_is_free_for_its_holds(world: dict[str, Any]) -> None:
    limit = factories.make_limit(metric="concurrency", period="total", amount="1", key=world["key"])
    pen, first = Pen(), make_hold(limits=(limit,), **world)
    pen.write(holds=[first])
    assert refused_by(pen.write(settles=[make_settle(first)], holds=[make_hold(limits=(limit,), **world)])) == {}
    assert window(limit) == (0, 1)


def test_a_minute_still_feels_the_one_before(world: dict[str, Any]) -> None:
    limit = factories.make_limit(metric="requests", period="minute", amount="10", key=world["key"])
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_limitwindow (limit_id, starts_at, used) "
            "VALUES (%s, date_trunc('minute', clock_timestamp()) - interval '1 minute', 1000000)",
            [limit.pk],
        )
    answer = Pen().write(holds=[make_hold(limits=(limit,), **world)])
    assert refused_by(answer) == {"1": {"limit": limit.pk, "why": "limit"}}


# --- settlement -----------------------------------------------------------------------------------------------


def test_a_settle_moves_held_to_used_and_adds_up(world: dict[str, Any]) -> None:
    usd = factories.make_limit(amount="10", key=world["key"])
    tokens = factories.make_limit(metric="tokens", amount="1000", key=world["key"])
    places = factories.make_limit(metric="concurrency", period="total", amount="5", key=world["key"])
    pen, hold = Pen(), make_hold(limits=(usd, tokens, places), **world)
    pen.write(holds=[hold])
    pen.write(settles=[make_settle(hold)])
    assert (window(usd), window(tokens), window(places)) == ((Decimal("0.25"), 0), (15, 0), (0, 0))
    call, spend = Call.objects.get(), DailySpend.objects.get()
    assert (call.id, call.cost_usd, call.counted_usd, call.counted_tokens) == (
        hold.id, Decimal("0.25"), Decimal("0.25"), 15,
    )  # fmt: skip
    assert (spend.calls, spend.cost_usd, spend.input_tokens, spend.output_tokens) == (1, Decimal("0.25"), 10, 5)
    assert (spend.user_id, spend.team_id) == (world["key"].user_id, world["key"].team_id)
    assert not Hold.objects.exists()


def test_it_refuses_a_second_settle(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="10", key=world["key"])
    pen, hold = Pen(), make_hold(limits=(limit,), **world)
    pen.write(holds=[hold])
    pen.write(settles=[make_settle(hold)])
    pen.write(settles=[make_settle(hold, cost_usd=Decimal(9))])
    assert window(limit) == (Decimal("0.25"), 0)
    assert Call.objects.get().cost_usd == Decimal("0.25")
    assert not Adjustment.objects.exists()


def test_two_settles_of_one_hold_in_one_batch_do_not_count_twice(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="10", key=world["key"])
    pen, hold = Pen(), make_hold(limits=(limit,), **world)
    pen.write(holds=[hold])
    try:
        with transaction.atomic():
            pen.write(settles=[make_settle(hold), make_settle(hold)])
    except DatabaseError:
        pen.write(settles=[make_settle(hold)])
    assert Call.objects.count() == 1
    assert window(limit) == (Decimal("0.25"), 0)


def test_a_settle_of_what_was_never_held_is_refused(world: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError, match="it was never held here"), transaction.atomic():
        Pen().write(settles=[make_settle(make_hold(**world))])


def test_an_unknown_cost_counts_as_its_bound(world: dict[str, Any]) -> None:
    usd = factories.make_limit(amount="10", key=world["key"])
    tokens = factories.make_limit(metric="tokens", amount="1000", key=world["key"])
    pen, hold = Pen(), make_hold(limits=(usd, tokens), **world)
    pen.write(holds=[hold])
    unknown: dict[str, Any] = {
        "cost_usd": None, "cost_source": "unknown", "unpriced_reason": "no usage", "usage_source": "none",
        "input_tokens": 0, "output_tokens": 0, "meters": {},
    }  # fmt: skip
    pen.write(settles=[make_settle(hold, outcome="failed", **unknown)])
    assert (window(usd), window(tokens)) == ((1, 0), (100, 0))
    assert DailySpend.objects.get().unpriced_calls == 1


def test_a_settle_after_the_sweep_becomes_one_adjustment_to_the_truth(world: dict[str, Any]) -> None:
    usd = factories.make_limit(amount="10", key=world["key"])
    tokens = factories.make_limit(metric="tokens", amount="1000", key=world["key"])
    pen, hold = Pen(), make_hold(limits=(usd, tokens), **world)
    pen.write(holds=[hold])
    swept: dict[str, Any] = {
        "cost_usd": None, "cost_source": "unknown", "unpriced_reason": "died", "usage_source": "none",
        "input_tokens": 0, "output_tokens": 0, "meters": {},
    }  # fmt: skip
    pen.write(settles=[make_settle(hold, outcome="abandoned", **swept)])
    for _ in range(2):
        pen.write(settles=[make_settle(hold)])
    adjustment = Adjustment.objects.get()
    assert (adjustment.delta_usd, adjustment.reason, adjustment.settles_unknown) == (
        Decimal("0.25"), "late_settlement", True,
    )  # fmt: skip
    assert (window(usd), window(tokens)) == ((Decimal("0.25"), 0), (15, 0))
    assert sum(row.adjustments_usd for row in DailySpend.objects.all()) == Decimal("0.25")


def test_settlement_goes_to_the_window_of_the_hold(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="10", key=world["key"])
    pen, hold = Pen(), make_hold(limits=(limit,), **world)
    pen.write(holds=[hold])
    # Midnight comes while the call is in flight.
    LimitWindow.objects.filter(limit=limit).update(starts_at="2020-01-01T00:00:00Z")
    pen.write(settles=[make_settle(hold)])
    assert window(limit) == (Decimal("0.25"), 0)


def test_a_failed_attempt_and_the_next_hold_are_one_batch(world: dict[str, Any]) -> None:
    limit = factories.make_limit(amount="1", key=world["key"])
    pen, first = Pen(), make_hold(limits=(limit,), **world)
    pen.write(holds=[first])
    failed = make_settle(
        first, outcome="failed", cost_usd=Decimal(0), cost_source="nothing_used", input_tokens=0, output_tokens=0
    )
    second = make_hold(limits=(limit,), attempt=2, request_id=first.request_id, **world)
    assert refused_by(pen.write(settles=[failed], holds=[second])) == {}
    assert (Call.objects.get().attempt, Hold.objects.get().attempt) == (1, 2)
    assert window(limit) == (0, 1)


def test_batches_are_chained_and_hold_the_hash_of_their_rows(world: dict[str, Any]) -> None:
    pen = Pen()
    for _ in range(3):
        holds = [make_hold(**world) for _ in range(2)]
        pen.write(holds=holds)
        pen.write(settles=[make_settle(hold) for hold in holds])
    batches = list(Batch.objects.order_by("seq"))
    assert [(batch.seq, batch.count) for batch in batches] == [(1, 2), (2, 2), (3, 2)]
    assert bytes(batches[0].previous_hash) == bytes(32)
    assert [bytes(batch.previous_hash) for batch in batches[1:]] == [bytes(batch.hash) for batch in batches[:-1]]
    assert bytes(Writer.objects.get(pk=pen.id).head) == bytes(batches[-1].hash)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT b.hash = ledger_chain_hash(b.previous_hash, (SELECT string_agg(ledger_call_bytes(c.*), ''::bytea "
            "ORDER BY c.position) FROM ledger_call c WHERE c.batch_seq = b.seq)) FROM ledger_batch b"
        )
        assert cursor.fetchall() == [(True,)] * 3


@pytest.mark.parametrize(("period", "starts"), [
    ("minute", "2026-11-25 13:45:00"), ("hour", "2026-11-25 13:00:00"), ("day", "2026-11-25 00:00:00"),
    ("week", "2026-11-23 00:00:00"), ("month", "2026-11-01 00:00:00"), ("total", "1970-01-01 00:00:00"),
])  # fmt: skip
def test_periods_begin_in_utc_whatever_the_session_says(period: str, starts: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL timezone = 'Asia/Tokyo'")
        cursor.execute(
            "SELECT (ledger_period_start(%s, '2026-11-25 13:45:59.5+00') AT TIME ZONE 'UTC')::text", [period]
        )
        assert cursor.fetchone() == (starts,)
