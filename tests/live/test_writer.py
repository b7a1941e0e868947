"""The group-commit writer on a database of its own: what goes wrong between it and PostgreSQL, one wrong at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger import recovery
from ledger.models import Call, Hold
from ledger.models import Writer as WriterRow
from ledger.rows import encode
from ledger.spool import Spool
from ledger.writer import LedgerRejected, LedgerUnavailable, Writer
from tests import factories
from tests.ledger.rows import make_hold, make_settle
from tests.live import books
from tests.live.writers import Flaky, Make, World, connect, used_and_held, warm_up


def test_a_hold_and_its_settle_are_durable_when_they_return(make_writer: Make, world: World) -> None:
    limit = factories.make_limit(amount="10", key=world["key"])
    writer, hold = make_writer(), make_hold(limits=(limit,), **world)
    assert writer.hold(hold).refusal is None
    assert used_and_held(limit) == (0, 1)
    writer.settle(make_settle(hold))
    assert used_and_held(limit) == (Decimal("0.25"), 0)
    assert Call.objects.get(pk=hold.id).cost_usd == Decimal("0.25")


def test_a_refusal_names_the_limit_and_room_is_told(make_writer: Make, world: World) -> None:
    limit = factories.make_limit(metric="requests", amount="1", key=world["key"])
    writer = make_writer()
    assert writer.hold(make_hold(limits=(limit,), **world)).room == {str(limit.pk): 0}
    refusal = writer.hold(make_hold(limits=(limit,), **world)).refusal
    assert refusal is not None
    assert (refusal.limit, refusal.why) == (limit.pk, "limit")


def test_many_at_once_share_batches_and_none_is_lost(make_writer: Make, world: World) -> None:
    limit = factories.make_limit(amount="50", key=world["key"])
    writers = [make_writer(), make_writer()]
    holds = [make_hold(limits=(limit,), **world) for _ in range(120)]
    with ThreadPoolExecutor(60) as pool:
        verdicts = list(pool.map(lambda pair: writers[pair[0] % 2].hold(pair[1]), enumerate(holds)))
        admitted = [hold for hold, verdict in zip(holds, verdicts, strict=True) if verdict.refusal is None]
        assert len(admitted) == 50
        list(pool.map(lambda pair: writers[pair[0] % 2].settle(make_settle(pair[1])), enumerate(admitted)))
    assert used_and_held(limit) == (Decimal("12.5"), 0)
    assert Call.objects.filter(key=world["key"]).count() == 50


def test_an_eaten_commit_reply_is_answered_by_the_replay(make_writer: Make, world: World) -> None:
    limit = factories.make_limit(metric="requests", amount="1", key=world["key"])
    eaten: list[bool] = []

    def commit_then_break(write: Callable[[], Any]) -> Any:
        answer = write()
        if len(eaten) < 2:
            eaten.append(True)
            raise psycopg.OperationalError("the connection broke after the commit")
        return answer

    writer = make_writer(connect=lambda: Flaky(commit_then_break))
    hold = make_hold(limits=(limit,), **world)
    verdict = writer.hold(hold)
    # Written once: a second writing would have been refused by the limit it filled itself.
    assert (verdict.refusal, verdict.room) == (None, {str(limit.pk): 0})
    writer.settle(make_settle(hold))
    assert len(eaten) == 2
    assert used_and_held(limit) == (1, 0)
    assert Call.objects.filter(key=world["key"]).count() == 1


def test_a_write_that_never_arrived_is_sent_again(make_writer: Make, world: World) -> None:
    lost: list[bool] = []

    def lose_first(write: Callable[[], Any]) -> Any:
        if not lost:
            lost.append(True)
            raise psycopg.OperationalError("no route")
        return write()

    writer, hold = make_writer(connect=lambda: Flaky(lose_first)), make_hold(**world)
    assert writer.hold(hold).refusal is None
    assert Hold.objects.filter(pk=hold.id).exists()
    writer.settle(make_settle(hold))


def test_a_fenced_writer_registers_anew_and_its_late_settle_is_an_adjustment(make_writer: Make, world: World) -> None:
    limit = factories.make_limit(amount="10", key=world["key"])
    asleep, awake = make_writer(lease_s=600.0), make_writer()
    hold = make_hold(limits=(limit,), **world)
    asleep.hold(hold)
    old_id = asleep.id
    with connect() as session:
        session.execute("UPDATE ledger_writer SET lease_until = now() - interval '1 hour' WHERE id = %s", (old_id,))
        assert recovery.sweep(session, writer=awake, grace_s=5.0) >= 1
    call = Call.objects.get(pk=hold.id)
    assert (call.outcome, call.cost_usd, used_and_held(limit)) == ("abandoned", None, (1, 0))
    asleep.settle(make_settle(hold))
    assert asleep.id != old_id
    adjustment = call.adjustments.get()
    assert (adjustment.reason, adjustment.delta_usd) == ("late_settlement", Decimal("0.25"))
    assert used_and_held(limit) == (Decimal("0.25"), 0)
    assert WriterRow.objects.get(pk=str(old_id)).state == "fenced"


def test_the_sweep_leaves_the_living_alone(make_writer: Make, world: World) -> None:
    writer, hold = make_writer(), make_hold(**world)
    writer.hold(hold)
    with connect() as session:
        assert recovery.sweep(session, writer=writer, grace_s=0.0) == 0
    assert Hold.objects.filter(pk=hold.id).exists()
    writer.settle(make_settle(hold))


def test_what_was_never_dispatched_is_swept_at_no_cost(make_writer: Make, world: World) -> None:
    limit = factories.make_limit(amount="10", key=world["key"])
    dead, living = make_writer(), make_writer()
    hold = make_hold(limits=(limit,), dispatched=False, **world)
    dead.hold(hold)
    dead.close()
    with connect() as session:
        assert recovery.sweep(session, writer=living, grace_s=0.0) == 1
    call = Call.objects.get(pk=hold.id)
    assert (call.outcome, call.cost_usd, call.cost_source) == ("abandoned", Decimal(0), "nothing_used")
    assert used_and_held(limit)[1] == 0


def test_a_sweep_of_many_holds_shares_commits(make_writer: Make, world: World) -> None:
    """One after the other they would take seconds, in which limits are held for nobody."""
    dead, living = make_writer(), make_writer()
    holds = [make_hold(**world) for _ in range(60)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(dead.hold, holds))
    dead.close()
    with connect() as session:
        assert recovery.sweep(session, writer=living, grace_s=0.0) == 60
    assert Call.objects.filter(pk__in=[hold.id for hold in holds], outcome="abandoned").count() == 60
    assert WriterRow.objects.get(pk=str(living.id)).batches <= 6


def test_only_one_sweeps_at_a_time(make_writer: Make, world: World) -> None:
    dead, living = make_writer(), make_writer()
    dead.hold(make_hold(**world))
    dead.close()
    with connect() as leader, connect() as other:
        leader.execute("SELECT pg_advisory_lock(hashtext('ledger_sweep'))")
        assert recovery.sweep(other, writer=living, grace_s=0.0) == 0
        leader.execute("SELECT pg_advisory_unlock(hashtext('ledger_sweep'))")
        assert recovery.sweep(other, writer=living, grace_s=0.0) == 1


def _gathered(writer: Writer, calls: list[Callable[[], Any]], *, gate: threading.Event) -> list[Any]:
    """Run `calls` at once so that they fall into one batch: the writer is kept busy until all are queued."""
    with ThreadPoolExecutor(len(calls)) as pool:
        asked = [pool.submit(call) for call in calls]
        books.until(lambda: writer.depth >= len(calls), what="all are queued")
        gate.set()
        return [each.exception() or each.result() for each in asked]


def test_a_poison_row_is_cut_out_and_its_neighbours_commit(make_writer: Make, world: World, tmp_path: Path) -> None:
    gate, busy = threading.Event(), threading.Event()

    def wait_first(write: Callable[[], Any]) -> Any:
        if busy.is_set():
            gate.wait(10)
        return write()

    limit = factories.make_limit(amount="100", key=world["key"])
    writer = make_writer(connect=lambda: Flaky(wait_first), timeout_s=20.0)
    holds = [make_hold(limits=(limit,), **world) for _ in range(8)]
    for hold in holds:
        writer.hold(hold)
    busy.set()
    blocker = threading.Thread(target=lambda: writer.settle(make_settle(holds[0])))
    blocker.start()
    books.until(lambda: writer.depth == 0, what="the first batch is on its way")
    settles = [make_settle(hold) for hold in holds[1:]]
    settles[3] = make_settle(holds[4], cost_usd=Decimal(-5))
    _gathered(writer, [lambda row=row: writer.settle(row) for row in settles], gate=gate)  # type: ignore[misc]
    blocker.join(10)
    found = {call.id: call for call in Call.objects.filter(key=world["key"])}
    assert set(found) == {hold.id for hold in holds}
    poisoned = found.pop(holds[4].id)
    assert (poisoned.cost_usd, poisoned.error_code, poisoned.counted_usd) == (None, "quarantined", Decimal(1))
    assert {call.cost_usd for call in found.values()} == {Decimal("0.25")}
    assert writer.quarantined == 1
    assert str(holds[4].id) in (tmp_path / "spool" / "quarantine.jsonl").read_text()


def test_a_poison_hold_is_refused_alone(make_writer: Make, world: World) -> None:
    writer = make_writer()
    with pytest.raises(LedgerRejected):
        writer.hold(make_hold(tokens=-1, **world))
    hold = make_hold(**world)
    assert writer.hold(hold).refusal is None
    writer.settle(make_settle(hold))


def test_a_hold_that_commits_after_its_caller_gave_up_is_settled_at_nothing(make_writer: Make, world: World) -> None:
    stuck, gate = threading.Event(), threading.Event()

    def slow(write: Callable[[], Any]) -> Any:
        if stuck.is_set():
            gate.wait(10)
        return write()

    limit = factories.make_limit(amount="10", key=world["key"])
    writer = make_writer(connect=lambda: Flaky(slow), timeout_s=1.0)
    warm_up(writer, world)
    stuck.set()
    hold = make_hold(limits=(limit,), **world)
    with pytest.raises(LedgerUnavailable):
        writer.hold(hold)
    assert not Hold.objects.filter(pk=hold.id).exists()
    gate.set()
    call = books.until(lambda: Call.objects.filter(pk=hold.id).first(), what="the phantom hold is settled")
    assert call is not None
    assert (call.outcome, call.cost_usd, call.error_code) == ("failed", Decimal(0), "ledger_unavailable")
    assert used_and_held(limit) == (0, 0)


def test_a_hold_given_up_in_the_queue_is_never_written(make_writer: Make, world: World) -> None:
    stuck, gate, on_its_way = threading.Event(), threading.Event(), threading.Event()

    def slow(write: Callable[[], Any]) -> Any:
        if stuck.is_set():
            on_its_way.set()
            gate.wait(10)
        return write()

    writer = make_writer(connect=lambda: Flaky(slow), timeout_s=1.0)
    warm_up(writer, world)
    stuck.set()
    first, second = make_hold(**world), make_hold(**world)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(writer.hold, first)
        assert on_its_way.wait(5)
        with pytest.raises(LedgerUnavailable):
            writer.hold(second)
        assert isinstance(asked.exception(), LedgerUnavailable)
    gate.set()
    books.until(lambda: Call.objects.filter(pk=first.id).exists(), what="the one that was on its way is settled")
    writer.close()
    assert not Call.objects.filter(pk=second.id).exists()
    assert not Hold.objects.filter(pk__in=[first.id, second.id]).exists()


def test_a_settle_that_cannot_be_written_is_spooled_and_written_later(make_writer: Make, world: World) -> None:
    away = threading.Event()

    def maybe(write: Callable[[], Any]) -> Any:
        if away.is_set():
            raise psycopg.OperationalError("away")
        return write()

    limit = factories.make_limit(amount="10", key=world["key"])
    writer, hold = make_writer(connect=lambda: Flaky(maybe), timeout_s=0.2), make_hold(limits=(limit,), **world)
    writer.hold(hold)
    away.set()
    writer.settle(make_settle(hold))
    assert writer.spooled == 1
    assert not Call.objects.filter(pk=hold.id).exists()
    away.clear()
    books.until(lambda: Call.objects.filter(pk=hold.id).exists(), what="the settle is in the books")
    books.until(lambda: writer.spooled == 0, what="the spool is empty")
    # It was queued and spooled: written once all the same.
    assert used_and_held(limit) == (Decimal("0.25"), 0)


def test_the_next_process_adopts_the_spool_of_a_dead_one(make_writer: Make, world: World, tmp_path: Path) -> None:
    first, hold = make_writer(), make_hold(**world)
    first.hold(hold)
    first.close()
    left = Spool(folder=tmp_path / "spool")
    left.append(encode(make_settle(hold)))
    (path,) = (tmp_path / "spool").glob("*.spool")
    data = path.read_bytes()
    left.clear(1)
    left.close()
    (tmp_path / "spool" / "1-dead.spool").write_bytes(data + b"\x10\0\0\0torn")
    make_writer()
    books.until(lambda: Call.objects.filter(pk=hold.id).exists(), what="the adopted settle is in the books")


def test_closing_closes_the_row_and_refuses_new_holds(make_writer: Make, world: World) -> None:
    writer = make_writer()
    hold = make_hold(**world)
    writer.hold(hold)
    writer.settle(make_settle(hold))
    identifier = writer.id
    writer.close()
    assert WriterRow.objects.get(pk=str(identifier)).state == "closed"
    with pytest.raises(LedgerUnavailable):
        writer.hold(make_hold(**world))
