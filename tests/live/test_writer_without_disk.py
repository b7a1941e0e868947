"""The writer where neither the database nor the spool's disk does what it should: nothing is lost without a word."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from ledger import recovery
from ledger.models import Call
from ledger.spool import Spool
from ledger.writer import LedgerUnavailable
from tests import factories
from tests.ledger.rows import make_hold, make_settle
from tests.live import books
from tests.live.writers import Away, Make, World, connect, used_and_held


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_with_database_and_disk_gone_the_call_stays_held_and_nothing_new_is_taken(
    make_writer: Make, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(psycopg.OperationalError("away"))
    limit = factories.make_limit(amount="10", key=world["key"])
    writer = make_writer(connect=away.connect, timeout_s=0.2)
    holds = [make_hold(limits=(limit,), **world) for _ in range(3)]
    for hold in holds:
        writer.hold(hold)
    monkeypatch.setattr(Spool, "append", _full)
    away.set()
    # The first is on its way to the database, the others stand in line.
    for hold in holds:
        writer.settle(make_settle(hold))
    assert caplog.text.count("spool_failed") == 3
    assert used_and_held(limit) == (0, 3)
    books.until(lambda: writer.problem(), what="the process says that it is not ready")
    with pytest.raises(LedgerUnavailable):
        writer.hold(make_hold(**world))
    away.clear()
    identifiers = [hold.id for hold in holds]
    books.until(lambda: Call.objects.filter(pk__in=identifiers).count() == 3, what="what memory kept is in the books")
    assert used_and_held(limit) == (Decimal("0.75"), 0)
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


def test_who_cannot_write_does_not_sweep(make_writer: Make, world: World) -> None:
    """Look after look would put the same holds into its queue and its spool."""
    away = Away(psycopg.errors.DiskFull("away"))
    dead, held = make_writer(lease_s=1.0), make_hold(**world)
    dead.hold(held)
    dead.close()
    writer, hold = make_writer(connect=away.connect, timeout_s=0.2), make_hold(**world)
    writer.hold(hold)
    away.set()
    writer.settle(make_settle(hold))
    books.until(lambda: writer.problem(), what="it knows that it cannot write")
    with connect() as session:
        assert [recovery.sweep(session, writer=writer, grace_s=0.0) for _ in range(3)] == [0, 0, 0]
        assert (writer.depth, writer.spooled) == (0, 1)
        away.clear()
        books.until(lambda: recovery.sweep(session, writer=writer, grace_s=0.0), what="it sweeps")
    assert Call.objects.get(pk=held.id).outcome == "abandoned"


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
