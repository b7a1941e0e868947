"""The group-commit writer on a database of its own: what goes wrong between it and PostgreSQL, one wrong at a time."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger import database, recovery
from ledger.models import Call, Hold, Limit, LimitWindow
from ledger.models import Writer as WriterRow
from ledger.rows import encode
from ledger.spool import Spool
from ledger.writer import LedgerRejected, LedgerUnavailable, Writer
from tests import factories
from tests.ledger.rows import make_hold, make_settle
from tests.live import books

Make = Callable[..., Writer]
World = dict[str, Any]


@pytest.fixture
def world(own_database: str) -> World:
    return {"key": factories.make_key(), "model": factories.make_model()}


@pytest.fixture
def make_writer(own_database: str, tmp_path: Path) -> Iterator[Make]:
    """Started writers, closed at the end; then the books must be right."""
    made: list[Writer] = []

    def make(*, connect: Callable[[], psycopg.Connection[Any]] | None = None, **options: Any) -> Writer:
        spool = Spool(folder=tmp_path / "spool")
        writer = Writer(spool=spool, connect=connect, **{"lease_s": 30.0, "timeout_s": 5.0, **options})
        writer.start()
        made.append(writer)
        return writer

    yield make
    for writer in made:
        writer.close()
    # Not ledger.verify: the costs here are made up, and no sheet gives them.
    assert books.differences() == {}


def connect() -> psycopg.Connection[Any]:
    return database.connect(application_name="tollbook test")


class Flaky:
    """A connection whose every `ledger_write` passes through `at_write`; all else goes straight on."""

    def __init__(self, at_write: Callable[[Callable[[], Any]], Any]) -> None:
        self._real = connect()
        self._at_write = at_write

    def execute(self, query: str, *values: Any) -> Any:
        if "ledger_write" not in query:
            return self._real.execute(query, *values)
        return self._at_write(lambda: self._real.execute(query, *values))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def warm_up(writer: Writer, world: World) -> None:
    """One call written: the writer is connected and registered, and what follows is not its first time."""
    books.until(lambda: writer.id is not None, what="the writer is registered")
    hold = make_hold(**world)
    writer.hold(hold)
    writer.settle(make_settle(hold))


def used_and_held(limit: Limit) -> tuple[Any, Any]:
    window = LimitWindow.objects.get(limit=limit)
    return window.used, window.held


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


class Away(threading.Event):
    """While set, every write of the ledger fails with `error`."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__()
        self._error = error

    def connect(self) -> Any:
        return Flaky(self._write)

    def _write(self, write: Callable[[], Any]) -> Any:
        if self.is_set():
            raise self._error
        return write()


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_with_database_and_disk_gone_the_call_stays_held_and_nothing_new_is_taken(
    make_writer: Make, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(psycopg.OperationalError("away"))
    limit = factories.make_limit(amount="10", key=world["key"])
    writer, hold = make_writer(connect=away.connect, timeout_s=0.2), make_hold(limits=(limit,), **world)
    writer.hold(hold)
    monkeypatch.setattr(Spool, "append", _full)
    away.set()
    writer.settle(make_settle(hold))
    assert "spool_failed" in caplog.text
    assert used_and_held(limit) == (0, 1)
    books.until(lambda: writer.problem(), what="the process says that it is not ready")
    with pytest.raises(LedgerUnavailable):
        writer.hold(make_hold(**world))
    away.clear()
    books.until(lambda: Call.objects.filter(pk=hold.id).exists(), what="what memory kept is in the books")
    assert used_and_held(limit) == (Decimal("0.25"), 0)
    assert writer.problem() is None


def test_a_process_that_ends_with_both_gone_leaves_the_hold_to_the_sweep(
    make_writer: Make, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(psycopg.OperationalError("away"))
    limit = factories.make_limit(amount="10", key=world["key"])
    writer, hold = make_writer(connect=away.connect, timeout_s=0.2, lease_s=1.0), make_hold(limits=(limit,), **world)
    writer.hold(hold)
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "append", _full)
        away.set()
        writer.settle(make_settle(hold))
        writer.close()
    assert "spool_failed" in caplog.text
    other = make_writer()
    with connect() as connection:
        books.until(lambda: recovery.sweep(connection, writer=other, grace_s=0.1), what="the hold is swept")
    call = Call.objects.get(pk=hold.id)
    assert (call.outcome, call.cost_usd, call.counted_usd) == ("abandoned", None, Decimal(1))
    assert used_and_held(limit) == (Decimal(1), 0)


@pytest.mark.parametrize("error", [
    psycopg.errors.DiskFull, psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.UndefinedFunction,
    psycopg.errors.InsufficientPrivilege, psycopg.errors.OutOfMemory, psycopg.errors.CannotConnectNow,
])  # fmt: skip
def test_a_server_that_cannot_write_now_is_away_and_no_row_is_to_blame(
    make_writer: Make, world: World, error: type[psycopg.Error], tmp_path: Path
) -> None:
    away = Away(error("not now"))
    writer, hold = make_writer(connect=away.connect, timeout_s=0.2), make_hold(**world)
    writer.hold(hold)
    away.set()
    writer.settle(make_settle(hold))
    with pytest.raises(LedgerUnavailable):
        writer.hold(make_hold(**world))
    assert (writer.spooled, writer.quarantined) == (1, 0)
    away.clear()
    call = books.until(lambda: Call.objects.filter(pk=hold.id).first(), what="the settle is in the books")
    assert call is not None
    assert call.cost_usd == Decimal("0.25")
    assert not (tmp_path / "spool" / "quarantine.jsonl").exists()


def test_a_poison_row_has_its_call_also_when_no_disk_can_keep_it(
    make_writer: Make, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Spool, "quarantine", _full)
    writer, hold, next_hold = make_writer(), make_hold(**world), make_hold(**world)
    writer.hold(hold)
    writer.settle(make_settle(hold, cost_usd=Decimal(-5)))
    assert Call.objects.get(pk=hold.id).error_code == "quarantined"
    (record,) = [each for each in caplog.records if each.message == "quarantine_failed"]
    assert str(hold.id) in record.__dict__["row"]
    writer.hold(next_hold)
    writer.settle(make_settle(next_hold))
    assert Call.objects.get(pk=next_hold.id).cost_usd == Decimal("0.25")


@pytest.mark.parametrize("broken", ["read", "clear", "adopt"])
def test_a_spool_that_cannot_be_read_does_not_end_the_writer(
    make_writer: Make, world: World, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    away = Away(psycopg.OperationalError("away"))
    writer, hold = make_writer(connect=away.connect, timeout_s=0.2, lease_s=1.0), make_hold(**world)
    writer.hold(hold)
    away.set()
    writer.settle(make_settle(hold))
    tried = threading.Event()

    def refuse(*_: object) -> None:
        tried.set()
        raise OSError(errno.EIO, "the disk is broken")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, broken, refuse)
        away.clear()
        assert tried.wait(10)
        other = make_hold(**world)
        books.until(lambda: writer.problem() is None, what="it goes on")
        assert writer.hold(other).refusal is None
        writer.settle(make_settle(other))
    books.until(lambda: Call.objects.filter(pk=hold.id).exists(), what="the spooled settle is in the books")
    books.until(lambda: writer.spooled == 0, what="the spool is empty")


def test_new_calls_pass_between_the_batches_of_a_long_spool(
    make_writer: Make, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.writer.MAX_BATCH", 1)
    away = Away(psycopg.OperationalError("away"))
    writer = make_writer(connect=away.connect, timeout_s=0.2)
    holds = [make_hold(**world) for _ in range(6)]
    for hold in holds:
        writer.hold(hold)
    away.set()
    with ThreadPoolExecutor(len(holds)) as pool:
        list(pool.map(lambda hold: writer.settle(make_settle(hold)), holds))
    left: list[int] = []
    admitted = make_hold(**world)
    written = Spool.clear

    def asked_meanwhile(spool: Spool, count: int) -> None:
        if not left:
            left.append(spool.records)
            pool.submit(writer.hold, admitted)
            books.until(lambda: writer.depth, what="a new call asks")
        elif len(left) == 1:
            with connect() as connection:  # this is the writer's thread
                left.append(len(connection.execute("SELECT FROM ledger_hold WHERE id = %s", (admitted.id,)).fetchall()))
        written(spool, count)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(Spool, "clear", asked_meanwhile)
        away.clear()
        books.until(lambda: writer.spooled == 0, what="the spool is empty")
    assert left == [6, 1]
    writer.settle(make_settle(admitted))
